"""Reading what can be read of damaged tables, row by row where the files are damaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from byheart_store.tables.engine_errors import is_panic
from byheart_store.tables.lance_manifest import Fragment

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable

ROW_ID = "_rowid"
_PROBES = 5
"""Rows of a range that are tried before it is given up as a whole."""


@dataclass(frozen=True, slots=True)
class Read:
    """Rows as they were read: of sound files with all columns, and what damaged ones yield.

    What could not be read of a damaged row is null. `unread` rows are lost as a whole.
    """

    sound: pa.Table
    damaged: pa.Table
    unread: int

    def with_earlier(self, rows: pa.Table) -> Read:
        """The same with rows of an earlier version in the place of those that were damaged."""
        import pyarrow as pa

        again = set(rows.column("id").to_pylist())
        ids = self.damaged.column("id").to_pylist() if len(self.damaged) else []
        stay = pa.array([name not in again for name in ids], pa.bool_())
        rows = _marked_as_replaced(rows, [self.damaged, self.sound])
        sound = pa.concat_tables([self.sound, rows], promote_options="default")
        return Read(sound, self.damaged.filter(stay), 0)


async def read_rows(table: AsyncTable, fragments: Iterable[Fragment], damaged: set[str]) -> Read:
    """Read a table of which some files are damaged.

    Raises:
        RuntimeError, OSError: sound files can't be read either.
    """
    import pyarrow as pa

    layout = await table.schema()
    fields = [pa.field(one.name, one.type) for one in layout]
    nothing = pa.schema([pa.field(ROW_ID, pa.uint64()), *fields]).empty_table()
    hit = {part.number: part for part in fragments if not damaged.isdisjoint(part.names())}
    if not hit:
        rows = await table.query().with_row_id().to_arrow()
        return Read(rows, nothing, 0)
    ids = (await table.query().select([ROW_ID]).to_arrow()).column(ROW_ID).to_pylist()
    others = [one for one in ids if one >> 32 not in hit]
    sound = await _taken(table, others, layout.names) if others else nothing
    read, unread = [nothing], 0
    for number, part in hit.items():
        own = sorted(one for one in ids if one >> 32 == number)
        rows = await _of_damaged(table, own, _readable_columns(part, damaged, layout.names))
        unread += len(own) - len(rows)
        read.append(rows)
    return Read(sound, pa.concat_tables(read, promote_options="default"), unread)


def _readable_columns(part: Fragment, damaged: set[str], names: Sequence[str]) -> list[str]:
    """Sound columns first, so that they tell which rows there are."""
    lost = {name for file in part.files if file.name in damaged for name in file.columns}
    return sorted(names, key=lambda name: name in lost)


async def _taken(table: AsyncTable, ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
    return await table.take_row_ids(list(ids)).with_row_id().select(list(columns)).to_arrow()


async def _tried(table: AsyncTable, ids: Sequence[int], columns: Sequence[str]) -> pa.Table | None:
    """The rows, or None where the engine stumbles over what it reads."""
    try:
        rows = await _taken(table, ids, columns)
        rows.validate(full=True)
    except (RuntimeError, OSError, ValueError):
        return None
    except BaseException as error:
        if not is_panic(error):
            raise
        return None
    return rows if len(rows) == len(ids) else None


async def _of_damaged(table: AsyncTable, ids: list[int], columns: Sequence[str]) -> pa.Table:
    """The rows of which anything can be read, with nulls for what can't."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = await _tried(table, ids, columns) if ids else None
    if whole is not None:
        return whole
    wanted = pa.array(ids, pa.uint64())
    found: dict[str, pa.ChunkedArray] = {}
    for column in columns:
        parts = await _parts(table, ids, [column])
        if parts:
            rows = pa.concat_tables(parts)
            positions = pc.index_in(wanted, value_set=rows.column(ROW_ID).combine_chunks())
            found[column] = rows.column(column).take(positions)
    if not found:
        return pa.table({ROW_ID: pa.array([], pa.uint64())})
    return pa.table({ROW_ID: wanted} | found)


async def _parts(table: AsyncTable, ids: list[int], columns: list[str]) -> list[pa.Table]:
    """The ranges that can be read, found by halving those that can't."""
    rows = await _tried(table, ids, columns)
    if rows is not None:
        return [rows]
    if len(ids) > _PROBES:
        probes = [ids[len(ids) * number // _PROBES] for number in range(_PROBES)]
        if not any([await _tried(table, [one], columns) for one in probes]):
            return []
    if len(ids) == 1:
        return []
    middle = len(ids) // 2
    return [
        part for half in (ids[:middle], ids[middle:]) for part in await _parts(table, half, columns)
    ]


async def read_earlier(
    versions: Iterable[AsyncTable], read: Read, checked_lost: set[str]
) -> pa.Table | None:
    """Rows of an earlier version that stand for those that can't be read any more.

    A memory that is known to be there is taken from it. Rows of which nothing is known are taken
    only where they are as many as were lost: otherwise some of them may have been forgotten.
    """
    import pyarrow as pa

    keys = [*_keys(read.sound), *_keys(read.damaged)]
    known = {key for key in keys if None not in key}
    nameless = read.unread + len(keys) - sum(None not in key for key in keys)
    if not nameless and not checked_lost:
        return None
    for version in versions:
        try:
            rows = await version.query().to_arrow()
        except (RuntimeError, OSError):
            continue
        earlier = _keys(rows)
        strangers = [position for position, key in enumerate(earlier) if key not in known]
        taken = strangers if len(strangers) == nameless else []
        named = [position for position, key in enumerate(earlier) if key[0] in checked_lost]
        if taken or named:
            return rows.take(pa.array(sorted({*taken, *named}), pa.int64()))
    return None


def _keys(rows: pa.Table) -> list[tuple[str | None, int | None]]:
    if "id" not in rows.column_names or "passage" not in rows.column_names:
        return [(None, None)] * len(rows)
    ids, passages = rows.column("id").to_pylist(), rows.column("passage").to_pylist()
    return list(zip(ids, passages, strict=True))


def without_gaps(rows: pa.Table, layout: pa.Schema) -> pa.Table:
    """The rows that have a value in every column that needs one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not set(layout.names) <= set(rows.column_names):
        return layout.empty_table()
    whole = pa.array([True] * len(rows), pa.bool_())
    for one in layout:
        if not one.nullable:
            whole = pc.and_(whole, rows.column(one.name).combine_chunks().is_valid())
    return rows.select(layout.names).filter(whole).cast(layout)


def _marked_as_replaced(rows: pa.Table, others: Iterable[pa.Table]) -> pa.Table:
    """Rows of an earlier version, with the marks of what has replaced them since."""
    import pyarrow as pa

    later = {
        row["replaces"]: row
        for other in others
        for row in other.select(["id", "replaces", "created"]).to_pylist()
        if row["id"] and row["replaces"]
    }
    for name, value in (("replaced_by", "id"), ("replaced_at", "created")):
        position = rows.schema.get_field_index(name)
        values = [
            former if former is not None or own not in later else later[own][value]
            for own, former in zip(*rows.select(["id", name]).to_pydict().values(), strict=True)
        ]
        rows = rows.set_column(position, name, pa.array(values, rows.schema.field(position).type))
    return rows
