"""What each leg says of every memory that a filter admits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.relevance import most_words_score
from byheart_store.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]


UNKNOWN_COSINE = -1.0
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Evidence:
    """n admitted memories with their r passages, in the order of the snapshot.

    `memories` (n,) are their places in the snapshot, `sessions` (n,) their sessions' numbers, -1
    without one, `ages` (n,) the days since they happened, NaN where unknown. `first` (n + 1,) is
    where the passages of each begin, `rows` (r,) the passages' places in the snapshot. `text` (r,)
    are BM25 scores, 0 where no word was found, of which no text could exceed `most_text`.
    `cosines` (r,) are -1 where a passage has no vector. Both are None where they were not asked.
    """

    memories: Integers
    sessions: Integers
    ages: Floats
    first: Integers
    rows: Integers
    most_text: float
    text: Floats | None
    cosines: Floats | None

    def __len__(self) -> int:
        return len(self.memories)


async def gather_evidence(
    snapshot: Snapshot,
    words: str | None,
    encoding: Awaitable[Floats | None],
    predicate: str,
) -> Evidence:
    """Ask the legs that are given something to look for, while the query is being encoded."""
    vector, admitted, text = await asyncio.gather(
        encoding,
        snapshot.admitted(predicate),
        _words(snapshot, words, predicate),
    )
    memories, first, rows = _admitted_rows(snapshot, admitted)
    return Evidence(
        memories=memories,
        sessions=snapshot.sessions[memories],
        ages=_days_since(snapshot.moments[memories]),
        first=first,
        rows=rows,
        most_text=most_words_score(words or "", len(snapshot.starts)),
        text=None if text is None else text[rows],
        cosines=_cosines(snapshot, rows, vector),
    )


def _days_since(moments: NDArray[np.float64]) -> Floats:
    import numpy as np

    return ((time.time() - moments) / _SECONDS_PER_DAY).astype(np.float32)


async def _words(snapshot: Snapshot, words: str | None, predicate: str) -> Floats | None:
    return None if words is None else await snapshot.words(words, predicate)


def _admitted_rows(
    snapshot: Snapshot, admitted: NDArray[np.bool_]
) -> tuple[Integers, Integers, Integers]:
    import numpy as np

    memories = np.flatnonzero(admitted)
    counts = np.diff(snapshot.first)
    first = np.concatenate([[0], np.cumsum(counts[memories])])
    return memories, first, np.flatnonzero(np.repeat(admitted, counts))


def _cosines(snapshot: Snapshot, rows: Integers, vector: Floats | None) -> Floats | None:
    import numpy as np

    if vector is None or snapshot.column is None:
        return None
    cosines = snapshot.vectors[rows] @ vector
    return np.where(snapshot.embedded[rows], cosines, np.float32(UNKNOWN_COSINE))
