"""Maintenance: fragments merged, indexes brought up to date, old versions deleted, behind writes.

Each commit adds a fragment and leaves a version behind. Maintenance watches the commits of one open
database and tidies up in the background; what others are in the way of is put off until later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ByHeartError, StoreBusy
from byheart_store.tables import indexes, schema
from byheart_store.tables.database import Database
from byheart_store.tables.engine_errors import is_overtaken, storage_errors

if TYPE_CHECKING:
    from lancedb.table import AsyncTable

logger = logging.getLogger(__name__)

COMMITS_BETWEEN_COMPACTIONS = 64
"""Each commit adds a fragment, and each fragment slows every query down."""

ROWS_BETWEEN_COMPACTIONS = 4_096
"""Words of rows that no index holds yet are searched one row after the other."""

ROWS_LEFT_UNINDEXED = 16
"""So few rows that no index holds cost a query less than bringing the indexes up to date."""

QUIET_AFTER_WRITES = 1.0
"""Seconds without a write after which the rows of a burst are indexed."""

FOR_EVER = timedelta(days=36_500)

OLD_VERSIONS_KEPT = timedelta(seconds=5)
"""Long enough for any read that began on an old version to end."""


class Maintenance:
    """Compacts and indexes the tables of one open database."""

    def __init__(self, database: Database) -> None:
        """Watch the database's commits from now on."""
        self._database = database
        self._commits: Counter[str] = Counter()
        self._rows_to_index = 0
        self._when_quiet: asyncio.TimerHandle | None = None
        self._sweeps: dict[str, asyncio.TimerHandle] = {}
        self._compactions: set[asyncio.Task[None]] = set()
        database.on_commit = self._committed

    async def close(self) -> None:
        """Wait for running compactions, and index what a larger import has left."""
        self._cancel_timers()
        if self._rows_to_index >= ROWS_LEFT_UNINDEXED:
            self._start_compaction(self._database.memories, overdue=True)
        while self._compactions:
            await asyncio.wait(self._compactions)
            self._cancel_timers()

    async def compact(self, table: AsyncTable) -> None:
        """Merge fragments, bring indexes up to date and drop old versions, under the lock."""
        await self._database.write(lambda: self.tidy(table, OLD_VERSIONS_KEPT))
        if table.name == schema.MEMORIES:
            await self.index()

    async def index(self) -> None:
        """Make the indexes that the memories have grown to want, while others read and write.

        What can't be made for now, since others do or have written what it would hold, is left to
        the next compaction.
        """
        if self._database.location.is_service or not await self._unindexed():
            return
        busy = "another process is making the indexes"
        try:
            async with self._database.exclusively("index", busy):
                for column in await self._unindexed():
                    await indexes.create(self._database.memories, column)
        except StoreBusy as error:
            logger.info("no index for now: %s", error)
        except RuntimeError as error:
            if not is_overtaken(error):
                raise
            logger.info("no index for now: %s", error)
        await self._database.write(_nothing)  # its end makes durable what was committed

    async def tidy(
        self,
        table: AsyncTable,
        keep: timedelta,
        *,
        orphans: bool = False,
        after: Awaitable[None] | None = None,
    ) -> None:
        """Merge fragments, bring indexes up to date, drop versions older than that, inside `write`.

        While an index is being made of the fragments there are, they stay as they are.

        With `orphans`, what crashed writes have left behind is deleted too. `after` is a change
        that recall does not see but by the rows that it moves, which no index holds then. A
        database service does all that by itself, but for the change.
        """
        database = self._database
        if database.location.is_service:
            if after is not None:
                await after
            return
        async with database.moving_rows():
            if after is not None:
                await after
            if not orphans and await asyncio.to_thread(self._is_being_indexed):
                return
            database.check_lock()
            await table.optimize(cleanup_older_than=FOR_EVER)
        # Only what is safe on the disk may take the place of what is deleted.
        await database.settle()
        database.check_lock()
        await table.optimize(cleanup_older_than=keep, delete_unverified=orphans)

    def _committed(self, table: AsyncTable, new_rows: int) -> None:
        database = self._database
        if database.location.is_service:
            return  # fragments and indexes are its own concern
        if table.name == schema.MEMORIES:
            self._rows_to_index += new_rows
        # The first commit looks too, so that a thousand short-lived processes compact as well;
        # later ones know of so many versions, even where deletes have left few fragments.
        if self._rows_to_index >= ROWS_BETWEEN_COMPACTIONS:
            self._start_compaction(database.memories, overdue=True)
        elif self._commits[table.name] % COMMITS_BETWEEN_COMPACTIONS == 0:
            self._start_compaction(table, overdue=self._commits[table.name] > 0)
        if self._rows_to_index >= ROWS_LEFT_UNINDEXED:
            self._index_when_quiet()
        self._commits[table.name] += 1

    def _index_when_quiet(self) -> None:
        if self._when_quiet is not None:
            self._when_quiet.cancel()
        self._when_quiet = asyncio.get_running_loop().call_later(
            QUIET_AFTER_WRITES,
            lambda: self._start_compaction(self._database.memories, overdue=True),
        )

    def _start_compaction(self, table: AsyncTable, *, overdue: bool) -> None:
        if overdue and table.name == schema.MEMORIES:
            self._rows_to_index = 0
            if self._when_quiet is not None:
                self._when_quiet.cancel()
                self._when_quiet = None
        self._begin(self._compact_fragmented(table, overdue=overdue))

    def _begin(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore)
        self._compactions.add(task)
        task.add_done_callback(self._compactions.discard)

    async def _compact_fragmented(self, table: AsyncTable, *, overdue: bool) -> None:
        with self._putting_off(table):
            if overdue or await _fragments(table) >= COMMITS_BETWEEN_COMPACTIONS:
                await self.compact(table)
                self._sweep_later(table)

    def _sweep_later(self, table: AsyncTable) -> None:
        """Delete in time what a compaction leaves to those who are still reading it."""
        if table.name in self._sweeps:
            self._sweeps[table.name].cancel()
        self._sweeps[table.name] = asyncio.get_running_loop().call_later(
            2 * OLD_VERSIONS_KEPT.total_seconds(), lambda: self._begin(self._sweep(table))
        )

    async def _sweep(self, table: AsyncTable) -> None:
        with self._putting_off(table):
            await self._database.write(lambda: self.tidy(table, OLD_VERSIONS_KEPT))

    @contextmanager
    def _putting_off(self, table: AsyncTable) -> Iterator[None]:
        try:
            with storage_errors(self._database.location.address):
                yield
        except ByHeartError as error:
            logger.info("compaction of %s is put off: %s", table.name, error)

    def _cancel_timers(self) -> None:
        for timer in (self._when_quiet, *self._sweeps.values()):
            if timer is not None:
                timer.cancel()

    def _is_being_indexed(self) -> bool:
        return self._database.location.is_disk and self._database.home.is_at_work("index")

    async def _unindexed(self) -> list[str]:
        return await indexes.wanted(self._database.memories, await self._database.describe())


async def _nothing() -> None:
    """Change nothing."""


async def _fragments(table: AsyncTable) -> int:
    stats: Any = await table.stats()  # a dict, whatever its annotation says
    count: int = stats["fragment_stats"]["num_fragments"]
    return count
