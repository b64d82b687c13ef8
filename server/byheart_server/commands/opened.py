"""Opens a store for the length of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from byheart_server.opening import open_store
from byheart_server.settings import Settings
from byheart_store import MemoryStore

T = TypeVar("T")


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[MemoryStore, asyncio.Runner]]:
    """Open a store, and close it whatever happens.

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
    with opened(settings) as (store, runner):
        return runner.run(work(store))
