"""The two legs: what the words find and what the vectors find, gathered memory by memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import AsyncTable
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

KEYS = ["id", "passage", "namespace", "session", "turn"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """n memories that a leg found, with what each leg says of them; arrays are (n,).

    `text` and `context` are the BM25 scores of a memory and of what stood before it, 0 where no
    word was found. `cosine` is that of the best passage, NaN where no vector was found, and
    `vectors` (n, d) that passage's unit vector, zeros where none was found.
    """

    ids: list[str]
    namespaces: list[str]
    sessions: list[str | None]
    turns: list[int | None]
    passages: list[int]
    text: Floats
    context: Floats
    cosine: Floats
    vectors: Floats

    def __len__(self) -> int:
        return len(self.ids)


async def find(
    memories: AsyncTable,
    words: str | None,
    vector: Floats | None,
    column: str | None,
    predicate: str,
    pool: int,
) -> Candidates:
    """Ask the legs that are given something to look for, at once, for at most `pool` rows each."""
    text, context, near = await asyncio.gather(
        _by_words(memories, words, "searched", column, predicate, pool),
        _by_words(memories, words, "context", column, predicate, pool),
        _by_vector(memories, vector, column, predicate, pool),
    )
    return gathered(text, context, near, vector, column)


async def _by_words(
    memories: AsyncTable,
    words: str | None,
    searched: str,
    column: str | None,
    predicate: str,
    pool: int,
) -> pa.Table | None:
    if words is None:
        return None
    from lancedb.query import MatchQuery

    query = memories.query().nearest_to_text(MatchQuery(words, searched)).where(predicate)
    return (
        await query.select([*KEYS, *([column] if column else []), "_score"]).limit(pool).to_arrow()
    )


async def _by_vector(
    memories: AsyncTable, vector: Floats | None, column: str | None, predicate: str, pool: int
) -> pa.Table | None:
    if vector is None or column is None:
        return None
    query = memories.query().nearest_to(vector).column(column).distance_type("cosine")
    return await query.where(predicate).select([*KEYS, column, "_distance"]).limit(pool).to_arrow()


def gathered(
    text: pa.Table | None,
    context: pa.Table | None,
    near: pa.Table | None,
    vector: Floats | None,
    column: str | None,
) -> Candidates:
    """Fold the rows of all legs into memories; a memory's best passage speaks for it."""
    import numpy as np

    tables = [table for table in (near, text, context) if table is not None]
    keys: dict[str, dict[str, Any]] = {}
    for table in tables:
        for row in table.select(KEYS).to_pylist():
            keys.setdefault(row["id"], row)
    places = {name: place for place, name in enumerate(keys)}
    count = len(places)
    dimension = 0 if vector is None else len(vector)
    cosine = np.full(count, np.nan, np.float32)
    vectors = np.zeros((count, dimension), np.float32)
    passages = [row["passage"] for row in keys.values()]
    if vector is not None and column is not None:
        for table in tables:
            _keep_best(table, column, vector, places, cosine, vectors, passages)
    return Candidates(
        ids=list(keys),
        namespaces=[row["namespace"] for row in keys.values()],
        sessions=[row["session"] for row in keys.values()],
        turns=[row["turn"] for row in keys.values()],
        passages=passages,
        text=_scores(text, places),
        context=_scores(context, places),
        cosine=cosine,
        vectors=vectors,
    )


def _keep_best(
    table: pa.Table,
    column: str,
    vector: Floats,
    places: Mapping[str, int],
    cosine: Floats,
    vectors: Floats,
    passages: list[int],
) -> None:
    import numpy as np

    ids, numbers = table.column("id").to_pylist(), table.column("passage").to_pylist()
    for name, number, own in zip(ids, numbers, _vectors(table, column), strict=True):
        place, score = places[name], np.float32(own @ vector)
        if np.isnan(score) or score <= cosine[place]:
            continue
        cosine[place], vectors[place], passages[place] = score, own, number


def _vectors(table: pa.Table, column: str) -> Floats:
    """(rows, d); NaN where a row has no vector."""
    import numpy as np

    values = table.column(column).combine_chunks()
    dimension = values.type.list_size
    rows = np.full((len(values), dimension), np.nan, np.float32)
    present = np.asarray(values.is_valid())
    rows[present] = values.drop_null().flatten().to_numpy().reshape(-1, dimension)
    return rows


def _scores(table: pa.Table | None, places: Mapping[str, int]) -> Floats:
    import numpy as np

    scores = np.zeros(len(places), np.float32)
    if table is not None:
        for name, score in _pairs(table):
            scores[places[name]] = score
    return scores


def _pairs(table: pa.Table) -> Iterable[tuple[Any, Any]]:
    return zip(table.column("id").to_pylist(), table.column("_score").to_pylist(), strict=True)
