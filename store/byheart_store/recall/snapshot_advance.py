"""The snapshot of a later version, by what has changed since an earlier one."""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.recall.snapshot import Snapshot, in_one_piece
from byheart_store.recall.snapshot_building import arranged, read_keys, sorted_snapshot
from byheart_store.tables import indexes
from byheart_store.tables.rows import CONVERSATION_ORDER

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import AsyncTable
    from numpy.typing import NDArray

    Booleans: TypeAlias = NDArray[np.bool_]


_ROWS_OF_A_FRAGMENT = 1 << 32

_NEWEST_COMPARED = 8

_MOST_FRESH = 1_000
"""More new rows than these are quicker sorted with all others than put in between."""


async def advanced(
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
    fresh = await read_keys(table, held, from_then_on)
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
        added = sorted_snapshot(table, version, latest.column, fresh, held=vectors is not None)
        positions = _positions_between(keys, added.keys)
        keys = _put_between(keys, positions, added.keys)
        if vectors is not None and added.vectors is not None:
            vectors = np.insert(vectors, positions, added.vectors, axis=0)
        if embedded is not None and added.embedded is not None:
            embedded = np.insert(embedded, positions, added.embedded)
    return arranged(table, version, latest.column, keys, vectors, embedded)


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
    columns = [in_one_piece(keys.column(name)) for name in CONVERSATION_ORDER]

    def key(row: int) -> tuple[object, ...]:
        return _sortable(column[row].as_py() for column in columns)

    wanted = zip(*(added.column(name).to_pylist() for name in CONVERSATION_ORDER), strict=True)
    return [bisect(range(len(keys)), _sortable(values), key=key) for values in wanted]


def _sortable(values: Iterable[object]) -> tuple[object, ...]:
    """As Arrow sorts: what is null comes last."""
    return tuple((value is None, value) if value is not None else (True,) for value in values)
