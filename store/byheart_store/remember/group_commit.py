"""Memories that are told at the same time share a commit.

A commit takes as long for many memories as for one, and only one writer at a time may commit: what
arrives meanwhile goes into the next one.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from byheart_store.errors import ByHeartError, InvalidInput, UnknownMemory
from byheart_store.records import NewMemory, Receipt
from byheart_store.remember.writer import MEMORIES_PER_COMMIT, Writer
from byheart_store.tables.lock import shielded

Answer: TypeAlias = Receipt | ByHeartError


class GroupCommit:
    """Gathers the memories of many callers for one writer."""

    def __init__(self, writer: Writer) -> None:
        """Nothing is gathered yet."""
        self._writer = writer
        self._gathered: list[NewMemory] | None = None
        self._latest: asyncio.Task[list[Answer]] | None = None

    async def remember(self, memory: NewMemory) -> Receipt:
        """Store one memory, alone or with others; even if the caller is cancelled meanwhile.

        Raises:
            As `Writer.remember_many`, for this memory.
        """
        batch = self._gathered
        if batch is None or self._latest is None or len(batch) == MEMORIES_PER_COMMIT:
            batch = self._gathered = []
            self._latest = asyncio.create_task(self._commit(batch, self._latest))
        position = len(batch)
        batch.append(memory)
        answer = (await shielded(self._latest))[position]
        if isinstance(answer, ByHeartError):
            raise answer
        return answer

    async def _commit(
        self, batch: list[NewMemory], before: asyncio.Task[list[Answer]] | None
    ) -> list[Answer]:
        """Write what was gathered until the commit before has ended."""
        if before is not None:
            await asyncio.wait([before])
        if self._gathered is batch:
            self._gathered = None
        return await self._written(batch)

    async def _written(self, batch: list[NewMemory]) -> list[Answer]:
        """What one of them can't have does not keep the others from theirs."""
        try:
            return [*await self._writer.remember_many(batch, None)]
        except (InvalidInput, UnknownMemory) as error:
            if len(batch) == 1:
                return [error]
        half = len(batch) // 2
        return [*await self._written(batch[:half]), *await self._written(batch[half:])]
