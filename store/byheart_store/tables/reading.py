"""Memories as they stand in the table: one, all in order, or counted; nothing is ranked here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from byheart_store.records import Memory
from byheart_store.tables import schema
from byheart_store.tables.database import Database
from byheart_store.tables.filters import ids_predicate
from byheart_store.tables.rows import CONVERSATION_ORDER, memory_of

if TYPE_CHECKING:
    from byheart_store.tables.schema import VectorColumn

IDS_PER_PAGE = 1_000

_IN_ORDER = CONVERSATION_ORDER[:-1]


class Reader:
    """Reads the memories of one open database as of the latest commit."""

    def __init__(self, database: Database) -> None:
        """The reader of one open database."""
        self._database = database

    async def matching(self, predicate: str) -> list[Memory]:
        """The memories that a predicate admits, in no particular order."""
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        return [memory_of(row) for row in await query.select(list(schema.MEMORY_COLUMNS)).to_list()]

    async def ids(self, predicate: str) -> list[str]:
        """Their ids by namespace, session, turn and creation."""
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        keys = await query.select(list(_IN_ORDER)).to_arrow()
        keys = keys.sort_by([(name, "ascending") for name in _IN_ORDER])
        ids: list[str] = keys.column("id").to_pylist()
        return ids

    async def pages(self, ids: list[str]) -> AsyncIterator[list[Memory]]:
        """The memories with these ids, in their order; those forgotten meanwhile are left out."""
        for start in range(0, len(ids), IDS_PER_PAGE):
            page = ids[start : start + IDS_PER_PAGE]
            found = {memory.id: memory for memory in await self.matching(ids_predicate(page))}
            yield [found[name] for name in page if name in found]

    async def namespaces(self, predicate: str) -> tuple[dict[str, int], int]:
        """The memories that a predicate admits by namespace, and how many of them are replaced."""
        query = self._database.memories.query().where(f"passage = 0 AND {predicate}")
        rows = (await query.select(["namespace", "replaced_by"]).to_arrow()).to_pydict()
        replaced = sum(name is not None for name in rows["replaced_by"])
        return dict(sorted(Counter(rows["namespace"]).items())), replaced

    async def passages(self, predicate: str, column: VectorColumn | None) -> tuple[int, int]:
        """How many passages a predicate admits, and how many of them have no vector."""
        memories = self._database.memories
        lacking = f"{column.column} IS NULL AND {predicate}" if column else predicate
        return await memories.count_rows(predicate), await memories.count_rows(lacking)

    async def bytes(self) -> int | None:
        """The size of all files, None where they are not on this machine's disk."""
        if not self._database.location.is_disk:
            return None
        return await asyncio.to_thread(_size_of, Path(self._database.location.address))


def _size_of(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
