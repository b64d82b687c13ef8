"""Opens the store that the settings name: for a server, or for the length of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from byheart_server.settings import Settings
from byheart_store import MemoryStore

T = TypeVar("T")


async def open_store(settings: Settings) -> MemoryStore:
    """Open the store that the settings name."""
    return await MemoryStore.open(
        settings.home,
        uri=settings.uri,
        model=settings.model,
        log_recalls=settings.log_recalls,
        durability=settings.durability,
        purge_after_days=settings.purge_after_days,
    )


@contextmanager
def store_and_runner(settings: Settings) -> Iterator[tuple[MemoryStore, asyncio.Runner]]:
    """Open a store for a command, and close it whatever happens.

    A command that asks its user something does so between two runs: a running event loop would
    keep Ctrl-C from a blocking read.
    """
    with asyncio.Runner() as runner:
        store = runner.run(open_store(settings))
        try:
            yield store, runner
        finally:
            runner.run(store.close())


def with_store(settings: Settings, work: Callable[[MemoryStore], Coroutine[Any, Any, T]]) -> T:
    """Open the store, do the work, close the store."""
    with store_and_runner(settings) as (store, runner):
        return runner.run(work(store))
