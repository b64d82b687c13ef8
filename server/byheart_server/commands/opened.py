"""Opens a store for the length of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from byheart_server.settings import Settings
from byheart_store import MemoryStore

T = TypeVar("T")


def with_store(settings: Settings, work: Callable[[MemoryStore], Awaitable[T]]) -> T:
    """Open the store, do the work, close the store, whatever happens."""

    async def opened() -> T:
        store = await MemoryStore.open(
            settings.home,
            uri=settings.uri,
            model=settings.model,
            log_recalls=settings.log_recalls,
        )
        async with store:
            return await work(store)

    return asyncio.run(opened())
