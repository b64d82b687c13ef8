"""What a server does for its store without being asked, in the background, while it is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from byheart_store.errors import ByHeartError
from byheart_store.moments import now
from byheart_store.tables.active_model import ActiveModel
from byheart_store.tables.database import Database
from byheart_store.tables.engine_errors import storage_errors
from byheart_store.upkeep.erasure import Eraser
from byheart_store.upkeep.reindexing import Reindexer

SECONDS_BETWEEN_PURGES = 3_600.0

logger = logging.getLogger(__name__)


class Chores:
    """Embeds what was stored without a model, finishes interrupted switches, purges in time."""

    def __init__(
        self, database: Database, model: ActiveModel, reindexer: Reindexer, eraser: Eraser
    ) -> None:
        """Nothing is begun yet, and nothing is purged while `purge_after` is None."""
        self.purge_after: timedelta | None = None
        self._database = database
        self._model = model
        self._reindexer = reindexer
        self._eraser = eraser
        self._round: asyncio.Task[None] | None = None
        self._purging: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin a round of all chores unless one is under way, and the watch for purges."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._do_all())
        if self._purging is None and self.purge_after is not None:
            self._purging = asyncio.create_task(self._purge_in_time())

    async def finish(self) -> None:
        """Wait for the round that is under way."""
        if self._round is not None:
            await asyncio.wait([self._round])

    async def close(self) -> None:
        """Interrupt what is under way; the next server takes it up again."""
        tasks = [task for task in (self._round, self._purging) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _do_all(self) -> None:
        for chore in (self._fill_missing, self._reindexer.resume, self._purge_when_due):
            await self._do(chore)

    async def _do(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            with storage_errors(self._database.location.address):
                await chore()
        except ByHeartError as error:
            logger.info("put off: %s", error)  # recall and doctor say what is to be done

    async def _purge_in_time(self) -> None:
        """A server may run for longer than what was forgotten may stay."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_PURGES)
            await self._do(self._purge_when_due)

    async def _fill_missing(self) -> None:
        encoder = await self._model.wait()
        column = (await self._database.describe()).active_column
        if column is not None and column.fingerprint == encoder.fingerprint:
            await self._reindexer.fill(encoder, column)

    async def _purge_when_due(self) -> None:
        since = (await self._database.describe()).forgotten_since
        if since is None or self.purge_after is None:
            return
        if now() - since >= self.purge_after:
            await self._eraser.purge()
