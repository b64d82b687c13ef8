"""Memories that are told at the same time share a commit.

A commit takes as long for many memories as for one, and only one writer at a time may commit: what
arrives meanwhile goes into the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from byheart_store.errors import InvalidInput, UnknownMemory
from byheart_store.lock import shielded
from byheart_store.records import NewMemory, Receipt
from byheart_store.writing import MEMORIES_PER_COMMIT, Writer


class Together:
    """Gathers the memories of many callers for one writer."""

    def __init__(self, writer: Writer) -> None:
        """Nothing is gathered yet."""
        self._writer = writer
        self._arrived: list[_Told] = []
        self._writing: asyncio.Task[None] | None = None

    async def remember(self, memory: NewMemory) -> Receipt:
        """Store one memory, alone or with others; even if the caller is cancelled meanwhile.

        Raises:
            As `Writer.remember_many`, for this memory.
        """
        told = _Told(memory)
        self._arrived.append(told)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await shielded(told.answer())

    async def _write(self) -> None:
        while self._arrived:
            batch = self._arrived[:MEMORIES_PER_COMMIT]
            self._arrived = self._arrived[MEMORIES_PER_COMMIT:]
            if not await self._written(batch):
                # What one of them can't have must not keep the others from theirs.
                for told in batch:
                    await self._written([told])

    async def _written(self, batch: Sequence[_Told]) -> bool:
        """Answer all of a batch; False where each has to be tried alone."""
        memories = [told.memory for told in batch]
        work = asyncio.create_task(self._writer.remember_many(memories, None))
        await asyncio.wait([work])
        error = work.exception()
        if error is None:
            for told, receipt in zip(batch, work.result(), strict=True):
                told.receipt.set_result(receipt)
            return True
        if len(batch) > 1 and isinstance(error, InvalidInput | UnknownMemory):
            return False
        for told in batch:
            told.receipt.set_exception(error)
        return True


class _Told:
    """A memory that somebody waits for."""

    def __init__(self, memory: NewMemory) -> None:
        self.memory = memory
        self.receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

    async def answer(self) -> Receipt:
        return await self.receipt
