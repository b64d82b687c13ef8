"""The latest snapshot, kept for all recalls until the next commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from byheart_store.allocator import release_free_memory
from byheart_store.recall.snapshot import Snapshot
from byheart_store.recall.snapshot_advance import advanced
from byheart_store.recall.snapshot_building import read_keys, sorted_snapshot
from byheart_store.tables import indexes
from byheart_store.tables.database import Database

if TYPE_CHECKING:
    from lancedb.table import AsyncTable


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
                latest = await advanced(latest, table, version, column, whole=whole)
                self._latest = latest or await take_snapshot(table, version, column, whole=whole)
            return self._latest  # type: ignore[return-value]

    def drop(self, version: int) -> bool:
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
    rows = await read_keys(table, column if held else None)
    snapshot = await asyncio.to_thread(sorted_snapshot, table, version, column, rows, held=held)
    del rows
    await asyncio.to_thread(release_free_memory)
    return snapshot
