"""Memories that are told at the same time share a commit.

A commit takes as long for many memories as for one, and only one writer at a time may commit: what
arrives meanwhile goes into the next one.
"""

from __future__ import annotations

import asyncio

from byheart_store.errors import InvalidInput, UnknownMemory
from byheart_store.lock import shielded
from byheart_store.records import NewMemory, Receipt
from byheart_store.writing import MEMORIES_PER_COMMIT, Writer


class Together:
    """Gathers the memories of many callers for one writer."""

    def __init__(self, writer: Writer) -> None:
        """Nothing is gathered yet."""
        self._writer = writer
        self._gathered: list[NewMemory] | None = None
        self._latest: asyncio.Task[list[Receipt]] | None = None

    async def remember(self, memory: NewMemory) -> Receipt:
        """Store one memory, alone or with others; even if the caller is cancelled meanwhile.

        Raises:
            As `Writer.remember_many`, for this memory.
        """
        batch = self._gathered
        if batch is None or self._latest is None or len(batch) == MEMORIES_PER_COMMIT:
            batch = self._gathered = []
            self._latest = asyncio.create_task(self._commit(batch, self._latest))
        place = len(batch)
        batch.append(memory)
        try:
            return (await shielded(self._latest))[place]
        except (InvalidInput, UnknownMemory):
            if len(batch) == 1:
                raise
        # What one of them can't have must not keep the others from theirs.
        return (await shielded(self._writer.remember_many([memory], None)))[0]

    async def _commit(
        self, batch: list[NewMemory], before: asyncio.Task[list[Receipt]] | None
    ) -> list[Receipt]:
        """Write what was gathered until the commit before has ended."""
        if before is not None:
            await asyncio.wait([before])
        if self._gathered is batch:
            self._gathered = None
        return await self._writer.remember_many(batch, None)
