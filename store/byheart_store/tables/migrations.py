"""How stores of earlier formats become readable: one named function per step.

A migration runs under the write lock, before anything else reads the store, and may be run again
after a crash in its middle. It never drops what it can't rebuild.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store.tables.rows import CONVERSATION_ORDER, SEARCH_COLUMNS, searched_anew
from byheart_store.tables.schema import ROW_KEY, SEARCHED, create_text_index, origin_fields

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable

Migration: TypeAlias = "Callable[[AsyncTable, AsyncTable, AsyncTable], Awaitable[None]]"


async def search_one_column(memories: AsyncTable, *_: AsyncTable) -> None:
    """From 1 to 2: the turns before are searched in the column of the own words, weighted.

    Format 1 had a second text column for them, `context`.
    """
    columns = list(SEARCH_COLUMNS)
    rows = await memories.query().select(columns).to_arrow()
    ordered = rows.sort_by([(name, "ascending") for name in CONVERSATION_ORDER]).to_pylist()
    update = _searched_anew(ordered, rows.schema)
    await memories.merge_insert(ROW_KEY).when_matched_update_all().execute(update)
    for index in await memories.list_indices():
        await memories.drop_index(index.name)
    if "context" in (await memories.schema()).names:
        await memories.drop_columns(["context"])
    await create_text_index(memories)


def _searched_anew(rows: Iterable[Mapping[str, Any]], layout: pa.Schema) -> pa.Table:
    """Keys and `searched` of all rows, given in the order of sessions and turns."""
    import pyarrow as pa

    updated = [
        {"id": row["id"], "passage": row["passage"], SEARCHED: text}
        for row, text in searched_anew(rows)
    ]
    return pa.Table.from_pylist(
        updated, schema=pa.schema([*map(layout.field, ROW_KEY), pa.field(SEARCHED, pa.string())])
    )


async def tell_the_origin(memories: AsyncTable, *_: AsyncTable) -> None:
    """From 2 to 3: each memory can tell who brought it; of the earlier ones nobody knows."""
    names = (await memories.schema()).names
    missing = [field for field in origin_fields() if field.name not in names]
    if missing:
        await memories.add_columns(missing)


FROM_FORMAT: Mapping[int, Migration] = {1: search_one_column, 2: tell_the_origin}
"""The step that leads from each format to the next."""
