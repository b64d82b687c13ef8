"""One version of the memories, held ready for ranking: who stands where, and the vectors.

Brute force over vectors in memory answers faster than any query of the table until there are
very many; from then on the table's indexes are asked. The words are searched by LanceDB, on the
very same version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.models.passages import Span
from byheart_store.records import Filter, Memory
from byheart_store.tables import schema
from byheart_store.tables.filters import to_sql
from byheart_store.tables.rows import memory_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import AsyncTable
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]


_MOST_MASKS = 256

_MOST_KEPT = 2_000

_LONGEST_KEPT = 10_000

PROBES = 20
"""Partitions of the index of vectors that are searched; more where a filter leaves too few."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """m memories with r passages, sorted by namespace, session and turn, passages in order.

    `keys` has r rows: `KEYS` and `_rowid`. `first` (m + 1,) tells where each memory's passages
    begin, `sessions` (m,) numbers the sessions, -1 where there is none, `moments` (m,) are seconds
    since 1970, NaN where it is not known when, `replaced` (m,) tells who has a successor.
    `vectors` (r, d) holds unit rows, zeros where `embedded` (r,) is false; without a vector column
    d is 0. Both are None where the table's indexes are asked instead. `positions` (r,) are those of
    the passages in the order of `sorted_row_ids`.
    """

    table: AsyncTable
    version: int
    column: str | None
    keys: pa.Table
    first: Integers
    sessions: Integers
    moments: NDArray[np.float64]
    replaced: Booleans
    vectors: Floats | None
    embedded: Booleans | None
    sorted_row_ids: Integers
    positions: Integers
    _masks: dict[str, Booleans] = field(default_factory=dict)
    _memories: dict[int, Memory] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def passages(self) -> int:
        """r, the number of passages."""
        return len(self.positions)

    def ids(self, memories: Integers) -> tuple[str, ...]:
        """The ids of the memories at these positions."""
        return tuple(self.keys.column("id").take(self.first[memories]).to_pylist())

    async def admitted(self, where: Filter) -> Booleans:
        """(m,) which memories a filter admits; remembered for the next query."""
        name = to_sql(where)
        if name not in self._masks:
            mask = self._of_namespaces(where.namespaces)
            if where.as_of is None and not where.include_replaced:
                mask &= ~self.replaced
            rest = where.beyond_namespaces()
            if rest.narrows:
                mask &= await self._matching(to_sql(rest))
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            self._masks[name] = mask
        return self._masks[name]

    def _of_namespaces(self, names: Sequence[str]) -> Booleans:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not names:
            return np.ones(len(self), bool)
        namespaces = in_one_piece(self.keys.column("namespace"))
        of_rows = pc.is_in(namespaces.dictionary, pa.array(names, pa.string())).to_numpy(
            zero_copy_only=False
        )
        mask: Booleans = of_rows[namespaces.indices.to_numpy()[self.first[:-1]]]
        return mask

    async def _matching(self, predicate: str) -> Booleans:
        import numpy as np

        query = self.table.query().where(f"passage = 0 AND ({predicate})").with_row_id()
        rows = await query.select(["passage"]).to_arrow()
        mask = np.zeros(self.passages, bool)
        mask[self._positions_of(rows)] = True
        return mask[self.first[:-1]]

    async def words(
        self, query: str, most: int, predicate: str | None = None
    ) -> tuple[Integers, Floats]:
        """The (k,) passages that the words of a query find, at `most`, and their BM25 scores."""
        import numpy as np
        from lancedb.query import MatchQuery

        if not self.passages:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        match = MatchQuery(query, schema.SEARCHED)  # type: ignore[call-arg]  # its defaults are hidden
        search = self.table.query().nearest_to_text(match)
        if predicate is not None:
            search = search.where(predicate)
        rows = await search.select(["_rowid", "_score"]).limit(most).to_arrow()
        return self._positions_of(rows), rows.column("_score").to_numpy()

    async def nearest(
        self, vector: Floats, most: int, predicate: str | None = None
    ) -> tuple[Integers, Floats]:
        """The (k,) passages nearest to a (d,) vector, at `most`, by the index, and their cosines.

        The index holds each component in a byte, so that the cosines are off in the third digit.
        """
        search = self.table.query().nearest_to(vector).column(self.column or "")
        search = search.distance_type("l2").maximum_nprobes(0).minimum_nprobes(PROBES)
        if predicate is not None:
            search = search.where(predicate)
        rows = await search.select(["_rowid", "_distance"]).limit(most).to_arrow()
        # Of unit vectors: the squared distance is 2 - 2 x the cosine.
        return self._positions_of(rows), 1 - rows.column("_distance").to_numpy() / 2

    def memories_of(self, passages: Integers) -> Integers:
        """(k,) positions of passages -> (k,) positions of their memories."""
        import numpy as np

        memories: Integers = np.searchsorted(self.first, passages, "right") - 1
        return memories

    def spans(self, memory: int) -> list[Span]:
        """The passages of the memory at this position."""
        low, high = int(self.first[memory]), int(self.first[memory + 1])
        rows = self.keys.slice(low, high - low).select(["start", "end"]).to_pydict()
        return [Span(start, end) for start, end in zip(rows["start"], rows["end"], strict=True)]

    def vectors_of(self, ids: Sequence[str]) -> Floats:
        """(n, d) the vectors of the memories' first passages, zeros where there is none."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.vectors is None:
            raise ValueError("the vectors of this snapshot were not read")
        every = self.keys.column("id").take(self.first[:-1])
        positions = pc.index_in(pa.array(ids, pa.string()), every)
        known = positions.is_valid().to_numpy(zero_copy_only=False)
        vectors = np.zeros((len(ids), self.vectors.shape[1]), np.float32)
        vectors[known] = self.vectors[self.first[positions.drop_null().to_numpy()]]
        return vectors

    async def memories(self, positions: Sequence[int]) -> list[Memory]:
        """The memories at these positions; what was recalled before is not read again."""
        heads = [int(self.first[position]) for position in positions]
        known = {head: self._memories[head] for head in heads if head in self._memories}
        missing = [head for head in heads if head not in known]
        if missing:
            rows = await self._take(missing, list(schema.MEMORY_COLUMNS))
            read = dict(zip(missing, map(memory_of, rows.to_pylist()), strict=True))
            self._keep(read)
            known |= read
        return [known[head] for head in heads]

    def _keep(self, memories: Mapping[int, Memory]) -> None:
        if len(self._memories) + len(memories) >= _MOST_KEPT:
            self._memories.clear()
        short = {head: one for head, one in memories.items() if len(one.text) <= _LONGEST_KEPT}
        self._memories.update(short)

    async def vectors_at(self, passages: Integers) -> tuple[Floats, Booleans]:
        """(k, d) the vectors of passages, zeros where there is none, and (k,) which have one."""
        if self.vectors is not None and self.embedded is not None:
            return self.vectors[passages], self.embedded[passages]
        columns = [] if self.column is None else [self.column]
        return vector_rows(await self._take(passages.tolist(), columns), self.column)

    async def _take(self, passages: Sequence[int], columns: list[str]) -> pa.Table:
        """Some columns of the rows of passages, in their order."""
        import numpy as np

        row_ids = self.keys.column("_rowid").take(np.asarray(passages, np.int64)).to_pylist()
        rows = await self.table.take_row_ids(row_ids).with_row_id().select(columns).to_arrow()
        number = {
            row_id: position for position, row_id in enumerate(rows.column("_rowid").to_pylist())
        }
        return rows.take([number[row_id] for row_id in row_ids])

    def _positions_of(self, rows: pa.Table) -> Integers:
        import numpy as np

        found = np.searchsorted(self.sorted_row_ids, rows.column("_rowid").to_numpy())
        positions: Integers = self.positions[found]
        return positions


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, which is copied only where it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def vector_rows(rows: pa.Table, column: str | None) -> tuple[Floats, Booleans]:
    """(k, d) vectors, zeros where a row has none, and (k,) which have one."""
    import numpy as np

    if column is None:
        return np.zeros((len(rows), 0), np.float32), np.zeros(len(rows), bool)
    values = in_one_piece(rows.column(column))
    present = values.is_valid().to_numpy(zero_copy_only=False)
    dimension = values.type.list_size
    vectors = np.zeros((len(values), dimension), np.float32)
    vectors[present] = values.drop_null().flatten().to_numpy().reshape(-1, dimension)
    return vectors, present
