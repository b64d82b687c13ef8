"""A snapshot from rows: sorted as conversations go, sessions numbered, names held once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from byheart_store.recall.snapshot import Snapshot, in_one_piece, vector_rows
from byheart_store.tables.rows import CONVERSATION_ORDER

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


async def read_keys(
    table: AsyncTable, column: str | None, predicate: str | None = None
) -> pa.Table:
    """The keys of all rows that a predicate admits, with the vectors of a column."""
    query = table.query().with_row_id().select([*KEYS, *([column] if column else [])])
    return await (query if predicate is None else query.where(predicate)).to_arrow()


def sorted_snapshot(
    table: AsyncTable, version: int, column: str | None, rows: pa.Table, *, held: bool
) -> Snapshot:
    """The snapshot of some rows in any order; it holds their vectors only where told to."""
    import pyarrow.compute as pc

    vectors = embedded = None
    if held:
        vectors, embedded = vector_rows(rows, column)
    keys = _keys(rows)
    order = pc.sort_indices(
        _comparable(keys), sort_keys=[(name, "ascending") for name in CONVERSATION_ORDER]
    )
    if vectors is not None and embedded is not None:
        vectors, embedded = vectors[order.to_numpy()], embedded[order.to_numpy()]
    return arranged(table, version, column, keys.take(order), vectors, embedded)


def _keys(rows: pa.Table) -> pa.Table:
    """The keys alone, with names that many rows share held once, in the order of their codes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = rows.select(["_rowid", *KEYS]).combine_chunks()
    for name in SHARED:
        codes = in_one_piece(keys.column(name)).dictionary_encode()
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
        codes = in_one_piece(keys.column(name)).indices
        keys = keys.set_column(keys.schema.get_field_index(name), name, codes)
    return keys


def arranged(
    table: AsyncTable,
    version: int,
    column: str | None,
    keys: pa.Table,
    vectors: Floats | None,
    embedded: Booleans | None,
) -> Snapshot:
    """The snapshot of rows that are sorted already."""
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
        codes = pc.fill_null(in_one_piece(heads.column(name)).indices, -1).to_numpy()
        begins[1:] |= codes[1:] != codes[:-1]
    has_session = heads.column("session").is_valid().to_numpy()
    return np.where(has_session, np.cumsum(begins), -1)


def _moments(heads: pa.Table) -> NDArray[np.float64]:
    """(m,) seconds since 1970 at which a memory happened, NaN where unknown."""
    import pyarrow as pa

    microseconds = heads.column("at").cast(pa.int64()).cast(pa.float64(), safe=False)
    moments: NDArray[np.float64] = microseconds.to_numpy() / 1e6
    return moments
