"""What each leg says of the memories that a filter admits: of all of them, or of the best."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.ranking.evidence import UNKNOWN_COSINE, Evidence
from byheart_store.ranking.relevance import most_words_score
from byheart_store.recall.snapshot import Snapshot
from byheart_store.records import Filter
from byheart_store.tables.filters import to_sql

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]
    Finds: TypeAlias = tuple[Integers, Floats]


CANDIDATES = 200
"""The best passages of each leg that are ranked where there are too many to rank all of them.

More are taken where these belong to fewer memories than were asked for.
"""

_SECONDS_PER_DAY = 86_400


async def gather_evidence(
    snapshot: Snapshot,
    words: str | None,
    encoding: asyncio.Future[Floats | None],
    where: Filter,
    limit: int,
) -> Evidence:
    """Ask the legs that are given something to look for, while the query is being encoded.

    It is of at least `limit` memories, if so many are admitted and found by any leg.
    """
    if snapshot.vectors is not None:
        return await _of_all(snapshot, words, encoding, where)
    return await _of_candidates(snapshot, words, encoding, where, limit)


async def _of_all(
    snapshot: Snapshot, words: str | None, encoding: asyncio.Future[Floats | None], where: Filter
) -> Evidence:
    import numpy as np

    vector, admitted, found = await asyncio.gather(
        encoding, snapshot.admitted(where), _words(snapshot, words, snapshot.passages)
    )
    memories = np.flatnonzero(admitted)
    first, rows = _rows_of(snapshot, memories)
    text = None if found is None else _spread(found, snapshot.passages)[rows]
    cosines = _cosines(snapshot, vector)
    return _evidence(
        snapshot,
        memories,
        (first, rows),
        admitted=len(memories),
        words=words,
        text=text,
        cosines=None if cosines is None else cosines[rows],
    )


async def _of_candidates(
    snapshot: Snapshot,
    words: str | None,
    encoding: asyncio.Future[Floats | None],
    where: Filter,
    limit: int,
) -> Evidence:
    admitted = await snapshot.admitted(where)
    predicate = None if admitted.all() else to_sql(where)
    enough, most = min(limit, int(admitted.sum())), max(CANDIDATES, limit)
    while True:
        found, near = await asyncio.gather(
            _words(snapshot, words, most, predicate),
            _nearest(snapshot, encoding, most, predicate),
        )
        memories = _memories_of(snapshot, found, near)
        left_some = any(leg is not None and len(leg[0]) == most for leg in (found, near))
        if len(memories) >= enough or not left_some:
            break
        most *= 4  # a few long memories have taken all the places
    first, rows = _rows_of(snapshot, memories)
    return _evidence(
        snapshot,
        memories,
        (first, rows),
        admitted=int(admitted.sum()),
        words=words,
        text=_of_rows(found, rows, most, 0.0),
        cosines=_of_rows(near, rows, most, UNKNOWN_COSINE),
    )


def _memories_of(snapshot: Snapshot, *legs: Finds | None) -> Integers:
    """(n,) the memories that any leg found, in order."""
    import numpy as np

    passages = [leg[0] for leg in legs if leg is not None]
    chosen = np.concatenate(passages) if passages else np.zeros(0, np.int64)
    return np.unique(snapshot.memories_of(chosen))


def _evidence(
    snapshot: Snapshot,
    memories: Integers,
    rows_of_each: tuple[Integers, Integers],
    *,
    admitted: int,
    words: str | None,
    text: Floats | None,
    cosines: Floats | None,
) -> Evidence:
    return Evidence(
        memories=memories,
        sessions=snapshot.sessions[memories],
        ages=_days_since(snapshot.moments[memories]),
        first=rows_of_each[0],
        rows=rows_of_each[1],
        admitted=admitted,
        most_text=most_words_score(words or "", snapshot.passages),
        text=text,
        cosines=cosines,
    )


def _days_since(moments: NDArray[np.float64]) -> Floats:
    import numpy as np

    return ((time.time() - moments) / _SECONDS_PER_DAY).astype(np.float32)


async def _words(
    snapshot: Snapshot, words: str | None, most: int, predicate: str | None = None
) -> Finds | None:
    return None if words is None else await snapshot.words(words, most, predicate)


async def _nearest(
    snapshot: Snapshot, encoding: asyncio.Future[Floats | None], most: int, predicate: str | None
) -> Finds | None:
    vector = await encoding
    if vector is None or snapshot.column is None:
        return None
    return await snapshot.nearest(vector, most, predicate)


def _rows_of(snapshot: Snapshot, memories: Integers) -> tuple[Integers, Integers]:
    """(n,) memories -> (n + 1,) where the passages of each begin, and (r,) these passages."""
    import numpy as np

    begins = snapshot.first[memories]
    counts = snapshot.first[memories + 1] - begins
    first = np.concatenate([[0], np.cumsum(counts)])
    return first, np.repeat(begins - first[:-1], counts) + np.arange(first[-1])


def _spread(found: Finds, passages: int) -> Floats:
    """(k,) positions and scores -> (r,) scores of all passages."""
    import numpy as np

    scores = np.zeros(passages, np.float32)
    scores[found[0]] = found[1]
    return scores


def _of_rows(found: Finds | None, rows: Integers, most: int, worst: float) -> Floats | None:
    """(r,) scores of the candidates; who was not found has no more than the last that was."""
    import numpy as np

    if found is None:
        return None
    positions, scores = found
    least = float(scores.min()) if len(scores) >= most else worst
    of_rows = np.full(len(rows), least, np.float32)
    of_rows[np.searchsorted(rows, positions)] = scores
    return of_rows


def _cosines(snapshot: Snapshot, vector: Floats | None) -> Floats | None:
    if vector is None or snapshot.column is None:
        return None
    if snapshot.vectors is None or snapshot.embedded is None:
        return None
    return exact_cosines(snapshot.vectors, snapshot.embedded, vector)


def exact_cosines(vectors: Floats, embedded: Booleans, vector: Floats) -> Floats:
    """(k, d) unit vectors and (k,) which of them are known -> (k,) cosines with a (d,) vector."""
    import numpy as np

    return np.where(embedded, vectors @ vector, np.float32(UNKNOWN_COSINE))
