"""One version of the memories, held ready for ranking: who stands where, and every vector.

Brute force over vectors in memory answers faster than any query of the table until there are
very many. The words are searched by LanceDB, on the very same version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from byheart_store import schema
from byheart_store.database import Database
from byheart_store.filters import listed
from byheart_store.passages import Span
from byheart_store.records import Memory
from byheart_store.rows import PLACE, memory_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import AsyncTable
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]

_COLUMNS = [*PLACE, "at", "start", "end"]
_MOST_MASKS = 256
_MOST_KEPT = 2_000
_LONGEST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """m memories with r passages, sorted by namespace, session and turn, passages in order.

    `first` (m + 1,) tells where each memory's passages begin, `sessions` (m,) numbers the sessions,
    -1 where there is none, `moments` (m,) are seconds since 1970, NaN where it is not known when.
    `vectors` (r, d) holds unit rows, zeros where `embedded` (r,) is false; without a vector column
    d is 0. `places` (r,) are those of the passages in the order of `sorted_row_ids`.
    """

    table: AsyncTable
    version: int
    column: str | None
    ids: Sequence[str]
    first: Integers
    sessions: Integers
    moments: NDArray[np.float64]
    starts: Integers
    ends: Integers
    vectors: Floats
    embedded: Booleans
    sorted_row_ids: Integers
    places: Integers
    _masks: dict[str, Booleans] = field(default_factory=dict)
    _memories: dict[int, Memory] = field(default_factory=dict)

    async def admitted(self, predicate: str) -> Booleans:
        """(m,) which memories a SQL predicate admits; remembered for the next query."""
        import numpy as np

        if predicate not in self._masks:
            query = self.table.query().where(f"passage = 0 AND ({predicate})").with_row_id()
            rows = await query.select(["passage"]).to_arrow()
            mask = np.zeros(len(self.starts), bool)
            mask[self._places_of(rows)] = True
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            self._masks[predicate] = mask[self.first[:-1]]
        return self._masks[predicate]

    async def words(self, query: str, predicate: str) -> Floats:
        """(r,) BM25 scores of the query, 0 where no word is found."""
        import numpy as np
        from lancedb.query import MatchQuery

        scores = np.zeros(len(self.starts), np.float32)
        if not len(scores):
            return scores
        match = MatchQuery(query, schema.SEARCHED)  # type: ignore[call-arg]  # its defaults are hidden
        search = self.table.query().nearest_to_text(match).where(predicate)
        rows = await search.select(["_rowid", "_score"]).limit(len(scores)).to_arrow()
        scores[self._places_of(rows)] = rows.column("_score").to_numpy()
        return scores

    def spans(self, memory: int) -> list[Span]:
        """The passages of the memory at this place."""
        low, high = self.first[memory], self.first[memory + 1]
        pairs = zip(self.starts[low:high].tolist(), self.ends[low:high].tolist(), strict=True)
        return [Span(start, end) for start, end in pairs]

    def vectors_of(self, ids: Sequence[str]) -> Floats:
        """(n, d) the vectors of the memories' first passages, zeros where there is none."""
        import numpy as np

        places = {name: place for place, name in enumerate(self.ids)}
        vectors = np.zeros((len(ids), self.vectors.shape[1]), np.float32)
        for number, name in enumerate(ids):
            if name in places:
                vectors[number] = self.vectors[self.first[places[name]]]
        return vectors

    async def memories(self, places: Sequence[int]) -> list[Memory]:
        """The memories at these places; what was recalled before is not read again."""
        known = {place: self._memories[place] for place in places if place in self._memories}
        known |= await self._read([place for place in places if place not in known])
        return [known[place] for place in places]

    async def _read(self, places: Sequence[int]) -> dict[int, Memory]:
        if not places:
            return {}
        by_id = {self.ids[place]: place for place in places}
        query = self.table.query().where(f"passage = 0 AND id IN {listed(by_id)}")
        rows = await query.select(list(schema.MEMORY_COLUMNS)).to_list()
        found = {by_id[row["id"]]: memory_of(row) for row in rows}
        if len(self._memories) >= _MOST_KEPT:
            self._memories.clear()
        short = {place: new for place, new in found.items() if len(new.text) <= _LONGEST_KEPT}
        self._memories.update(short)
        return found

    def _places_of(self, rows: pa.Table) -> Integers:
        import numpy as np

        found = np.searchsorted(self.sorted_row_ids, rows.column("_rowid").to_numpy())
        places: Integers = self.places[found]
        return places


class Snapshots:
    """Keeps the snapshot of the latest version, for all recalls until the next commit."""

    def __init__(self, database: Database) -> None:
        """The snapshots of one open database."""
        self._database = database
        self._latest: Snapshot | None = None
        self._taking = asyncio.Lock()

    async def current(self, column: str | None) -> Snapshot:
        """The memories as of the latest commit of any process, with the vectors of a column."""
        async with self._taking:
            version = await self._database.memories.version()
            latest = self._latest
            if latest is None or (latest.version, latest.column) != (version, column):
                table = await self._database.memories_at(version)
                latest = self._latest = await take_snapshot(table, version, column)
            return latest


async def take_snapshot(table: AsyncTable, version: int, column: str | None) -> Snapshot:
    """Read the version of the memories that `table` stays at."""
    columns = _COLUMNS if column is None else [*_COLUMNS, column]
    rows = await table.query().with_row_id().select(columns).to_arrow()
    return await asyncio.to_thread(_arranged, table, version, column, rows)


def _arranged(table: AsyncTable, version: int, column: str | None, rows: pa.Table) -> Snapshot:
    import numpy as np
    import pyarrow.compute as pc

    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in PLACE])
    keys = rows.select([*_COLUMNS, "_rowid"]).take(order)
    vectors, embedded = _vectors(rows, column, order.to_numpy())
    firsts = np.flatnonzero(keys.column("passage").to_numpy() == 0)
    heads = keys.take(firsts)
    row_ids = keys.column("_rowid").to_numpy()
    by_row_id = np.argsort(row_ids)
    return Snapshot(
        table=table,
        version=version,
        column=column,
        ids=heads.column("id").to_pylist(),
        first=np.append(firsts, len(row_ids)),
        sessions=_sessions(heads),
        moments=_moments(heads),
        starts=keys.column("start").to_numpy(),
        ends=keys.column("end").to_numpy(),
        vectors=vectors,
        embedded=embedded,
        sorted_row_ids=row_ids[by_row_id],
        places=by_row_id,
    )


def _sessions(heads: pa.Table) -> Integers:
    """(m,) a number per session, -1 without one; the rows are sorted by session."""
    import numpy as np
    import pyarrow.compute as pc

    begins = np.zeros(len(heads), bool)
    for name in ("namespace", "session"):
        column = heads.column(name)
        same = pc.fill_null(pc.equal(column.slice(1), column.slice(0, len(column) - 1)), False)
        begins[1:] |= ~same.to_numpy()
    has_session = pc.is_valid(heads.column("session")).to_numpy()
    return np.where(has_session, np.cumsum(begins), -1)


def _moments(heads: pa.Table) -> NDArray[np.float64]:
    """(m,) seconds since 1970 at which a memory happened, NaN where unknown."""
    import pyarrow as pa

    microseconds = heads.column("at").cast(pa.int64()).cast(pa.float64(), safe=False)
    moments: NDArray[np.float64] = microseconds.to_numpy() / 1e6
    return moments


def _vectors(rows: pa.Table, column: str | None, order: Integers) -> tuple[Floats, Booleans]:
    """(r, d) vectors in the given order, zeros where a row has none, and (r,) which have one."""
    import numpy as np

    if column is None:
        return np.zeros((len(rows), 0), np.float32), np.zeros(len(rows), bool)
    values = rows.column(column).combine_chunks()
    present = values.is_valid().to_numpy(zero_copy_only=False)
    dimension = values.type.list_size
    vectors = np.zeros((len(values), dimension), np.float32)
    vectors[present] = values.drop_null().flatten().to_numpy().reshape(-1, dimension)
    return vectors[order], present[order]
