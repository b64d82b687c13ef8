"""One version of the memories, held ready for ranking: who stands where, and the vectors.

Brute force over vectors in memory answers faster than any query of the table until there are
very many; from then on the table's indexes are asked. The words are searched by LanceDB, on the
very same version.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.allocator import release_free_memory
from byheart_store.models.passages import Span
from byheart_store.records import Filter, Memory
from byheart_store.tables import indexes, schema
from byheart_store.tables.database import Database
from byheart_store.tables.filters import to_sql
from byheart_store.tables.rows import CONVERSATION_ORDER, memory_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import AsyncTable
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]

KEYS = (*CONVERSATION_ORDER, "at", "start", "end", "replaced_by")
SHARED = ("namespace", "session", "replaced_by")
_MOST_MASKS = 256
_MOST_KEPT = 2_000
_LONGEST_KEPT = 10_000
_ROWS_OF_A_FRAGMENT = 1 << 32
_NEWEST_COMPARED = 8
_MOST_FRESH = 1_000
"""More new rows than these are quicker sorted with all others than put in between."""

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
        namespaces = _array(self.keys.column("namespace"))
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
        return _vectors(await self._take(passages.tolist(), columns), self.column)

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


class Snapshots:
    """Keeps the snapshot of the latest version, for all recalls until the next commit."""

    def __init__(self, database: Database) -> None:
        """The snapshots of one open database."""
        self._database = database
        self._latest: Snapshot | None = None
        self._taking = asyncio.Lock()

    async def at(self, version: int, column: str | None, *, whole: bool = False) -> Snapshot:
        """The memories of a version, with the vectors of a column in memory up to some size.

        With `whole` the vectors are held however many there are.
        """
        async with self._taking:
            latest, version = self._latest, self._database.visible_version(version)
            if latest is None or not _serves(latest, version, column, whole=whole):
                table = await self._database.memories_at(version)
                latest = await _advanced(latest, table, version, column, whole=whole)
                self._latest = latest or await take_snapshot(table, version, column, whole=whole)
            return self._latest  # type: ignore[return-value]

    def let_go(self, version: int) -> bool:
        """Let go of a snapshot that can't be read; whether it was of another version than this."""
        latest, self._latest = self._latest, None
        return latest is not None and latest.version != version


def _serves(latest: Snapshot, version: int, column: str | None, *, whole: bool) -> bool:
    held = latest.vectors is not None or not whole
    return (latest.version, latest.column) == (version, column) and held


async def take_snapshot(
    table: AsyncTable, version: int, column: str | None, *, whole: bool = False
) -> Snapshot:
    """Read the version of the memories that `table` stays at."""
    held = whole or await table.count_rows() < indexes.INDEXED_FROM
    rows = await _read(table, column if held else None)
    snapshot = await asyncio.to_thread(_sorted, table, version, column, rows, held=held)
    del rows
    await asyncio.to_thread(release_free_memory)
    return snapshot


async def _read(table: AsyncTable, column: str | None, predicate: str | None = None) -> pa.Table:
    query = table.query().with_row_id().select([*KEYS, *([column] if column else [])])
    return await (query if predicate is None else query.where(predicate)).to_arrow()


def _sorted(
    table: AsyncTable, version: int, column: str | None, rows: pa.Table, *, held: bool
) -> Snapshot:
    import pyarrow.compute as pc

    vectors = embedded = None
    if held:
        vectors, embedded = _vectors(rows, column)
    keys = _keys(rows)
    order = pc.sort_indices(
        _comparable(keys), sort_keys=[(name, "ascending") for name in CONVERSATION_ORDER]
    )
    if vectors is not None and embedded is not None:
        vectors, embedded = vectors[order.to_numpy()], embedded[order.to_numpy()]
    return _arranged(table, version, column, keys.take(order), vectors, embedded)


def _keys(rows: pa.Table) -> pa.Table:
    """The keys alone, with names that many rows share held once, in the order of their codes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = rows.select(["_rowid", *KEYS]).combine_chunks()
    for name in SHARED:
        codes = _array(keys.column(name)).dictionary_encode()
        order = pc.sort_indices(codes.dictionary)
        rank = pc.sort_indices(order).cast(pa.int32())
        encoded = pa.DictionaryArray.from_arrays(
            rank.take(codes.indices), codes.dictionary.take(order)
        )
        keys = keys.set_column(keys.schema.get_field_index(name), name, encoded)
    return keys


def _comparable(keys: pa.Table) -> pa.Table:
    """What rows are sorted by, as numbers wherever it can be: they compare faster than names."""
    for name in ("namespace", "session"):
        codes = _array(keys.column(name)).indices
        keys = keys.set_column(keys.schema.get_field_index(name), name, codes)
    return keys


async def _advanced(
    latest: Snapshot | None, table: AsyncTable, version: int, column: str | None, *, whole: bool
) -> Snapshot | None:
    """The snapshot of a later version by what has changed since; None where that is no saving.

    No row of a fragment ever changes in what is held of it here, but that it gets its vector: a
    change writes a new row into a new fragment and deletes the old one.
    """
    if latest is None or latest.column != column or not latest.passages:
        return None
    if version < latest.version:
        return None
    if latest.vectors is None and whole:
        return None
    if latest.embedded is not None and column is not None and not latest.embedded.all():
        return None
    last = int(latest.sorted_row_ids[-1])
    count, is_same = await asyncio.gather(table.count_rows(), _is_of_the_same_store(latest, table))
    if not is_same or (latest.vectors is not None and count >= indexes.INDEXED_FROM and not whole):
        return None
    from_then_on = f"_rowid >= {(last // _ROWS_OF_A_FRAGMENT + 1) * _ROWS_OF_A_FRAGMENT}"
    held = None if latest.vectors is None else column
    fresh = await _read(table, held, from_then_on)
    if len(fresh) > _MOST_FRESH:
        return None
    kept = None
    if count != latest.passages + len(fresh):
        present = await table.query().with_row_id().select([]).to_arrow()
        kept = _present(latest, present)
    return await asyncio.to_thread(_merged, latest, table, version, fresh, kept)


async def _is_of_the_same_store(latest: Snapshot, table: AsyncTable) -> bool:
    """Whether the newest rows are the same; a store put back from a backup may number otherwise."""
    newest = latest.positions[-_NEWEST_COMPARED:]
    known = latest.keys.take(newest).select(["_rowid", "id", "created"]).to_pylist()
    among = ", ".join(str(row["_rowid"]) for row in known)
    query = table.query().where(f"_rowid IN ({among})").with_row_id()
    found = await query.select(["id", "created"]).to_list()
    return bool(found) and all(row in known for row in found)


def _present(latest: Snapshot, rows: pa.Table) -> Booleans:
    import numpy as np

    row_ids = latest.keys.column("_rowid").to_numpy()
    return np.isin(row_ids, rows.column("_rowid").to_numpy())


def _merged(
    latest: Snapshot, table: AsyncTable, version: int, fresh: pa.Table, kept: Booleans | None
) -> Snapshot:
    """The rows kept with the fresh ones put in between, without sorting all of them again."""
    import numpy as np
    import pyarrow as pa

    keys, vectors, embedded = latest.keys, latest.vectors, latest.embedded
    if kept is not None:
        keys = keys.filter(pa.array(kept))
        vectors = None if vectors is None else vectors[kept]
        embedded = None if embedded is None else embedded[kept]
    if len(fresh):
        added = _sorted(table, version, latest.column, fresh, held=vectors is not None)
        positions = _positions_between(keys, added.keys)
        keys = _put_between(keys, positions, added.keys)
        if vectors is not None and added.vectors is not None:
            vectors = np.insert(vectors, positions, added.vectors, axis=0)
        if embedded is not None and added.embedded is not None:
            embedded = np.insert(embedded, positions, added.embedded)
    return _arranged(table, version, latest.column, keys, vectors, embedded)


def _put_between(keys: pa.Table, positions: Sequence[int], added: pa.Table) -> pa.Table:
    """The keys with the added rows at these rising positions: moved in blocks, not row by row."""
    import pyarrow as pa

    bounds = [0, *positions, len(keys)]
    parts = [keys.slice(0, bounds[1])]
    for number, (low, high) in enumerate(pairwise(bounds[1:])):
        parts += [added.slice(number, 1), keys.slice(low, high - low)]
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _positions_between(keys: pa.Table, added: pa.Table) -> list[int]:
    """Where each of the added rows belongs among the sorted keys."""
    columns = [_array(keys.column(name)) for name in CONVERSATION_ORDER]

    def key(row: int) -> tuple[object, ...]:
        return _sortable(column[row].as_py() for column in columns)

    wanted = zip(*(added.column(name).to_pylist() for name in CONVERSATION_ORDER), strict=True)
    return [bisect(range(len(keys)), _sortable(values), key=key) for values in wanted]


def _sortable(values: Iterable[object]) -> tuple[object, ...]:
    """As Arrow sorts: what is null comes last."""
    return tuple((value is None, value) if value is not None else (True,) for value in values)


def _arranged(
    table: AsyncTable,
    version: int,
    column: str | None,
    keys: pa.Table,
    vectors: Floats | None,
    embedded: Booleans | None,
) -> Snapshot:
    import numpy as np

    firsts = np.flatnonzero(keys.column("passage").to_numpy() == 0)
    row_ids = keys.column("_rowid").to_numpy()
    by_row_id = np.argsort(row_ids, kind="stable")
    heads = keys.select(["namespace", "session", "at", "replaced_by"]).take(firsts)
    return Snapshot(
        table=table,
        version=version,
        column=column,
        keys=keys,
        first=np.append(firsts, len(row_ids)),
        sessions=_sessions(heads),
        moments=_moments(heads),
        replaced=heads.column("replaced_by").is_valid().to_numpy(),
        vectors=vectors,
        embedded=embedded,
        sorted_row_ids=row_ids[by_row_id],
        positions=by_row_id,
    )


def _sessions(heads: pa.Table) -> Integers:
    """(m,) a number per session, -1 without one; the rows are sorted by session."""
    import numpy as np
    import pyarrow.compute as pc

    begins = np.zeros(len(heads), bool)
    for name in ("namespace", "session"):
        codes = pc.fill_null(_array(heads.column(name)).indices, -1).to_numpy()
        begins[1:] |= codes[1:] != codes[:-1]
    has_session = heads.column("session").is_valid().to_numpy()
    return np.where(has_session, np.cumsum(begins), -1)


def _moments(heads: pa.Table) -> NDArray[np.float64]:
    """(m,) seconds since 1970 at which a memory happened, NaN where unknown."""
    import pyarrow as pa

    microseconds = heads.column("at").cast(pa.int64()).cast(pa.float64(), safe=False)
    moments: NDArray[np.float64] = microseconds.to_numpy() / 1e6
    return moments


def _array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, which is copied only where it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _vectors(rows: pa.Table, column: str | None) -> tuple[Floats, Booleans]:
    """(k, d) vectors, zeros where a row has none, and (k,) which have one."""
    import numpy as np

    if column is None:
        return np.zeros((len(rows), 0), np.float32), np.zeros(len(rows), bool)
    values = _array(rows.column(column))
    present = values.is_valid().to_numpy(zero_copy_only=False)
    dimension = values.type.list_size
    vectors = np.zeros((len(values), dimension), np.float32)
    vectors[present] = values.drop_null().flatten().to_numpy().reshape(-1, dimension)
    return vectors, present
