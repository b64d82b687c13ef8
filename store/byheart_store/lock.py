"""One at a time: within the process, between processes, and through cancellation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from byheart_store.errors import StoreBusy

T = TypeVar("T")


class WriteLock:
    """An asyncio lock around a file lock.

    The operating system frees the file lock of a process that dies, so no lock is ever stale.
    """

    def __init__(self, path: Path, patience: float) -> None:
        """`patience` is the longest wait in seconds for other writers."""
        self._path = path
        self._patience = patience
        self._within = asyncio.Lock()
        self._between = FileLock(path, thread_local=False)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock.

        Raises:
            StoreBusy: another process kept it for longer than the patience.
        """
        deadline = time.monotonic() + self._patience
        try:
            await asyncio.wait_for(self._within.acquire(), self._patience)
        except TimeoutError:
            raise self._busy("others have") from None
        try:
            await self._acquire(deadline)
            try:
                yield
            finally:
                self._between.release()
        finally:
            self._within.release()

    async def _acquire(self, deadline: float) -> None:
        try:
            self._between.acquire(timeout=0)
        except Timeout:
            await self._wait(max(0.0, deadline - time.monotonic()))

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.to_thread(self._between.acquire, timeout=seconds, poll_interval=0.01)
        except Timeout:
            raise self._busy("another process has") from None

    def _busy(self, who: str) -> StoreBusy:
        return StoreBusy(
            f"{who} been writing for {self._patience:g} s (lock: {self._path}); try again"
        )


@contextmanager
def alone(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock of its own for a long piece of work that only one process at a time may do.

    Raises:
        StoreBusy: another one is at it; the message is `busy`.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreBusy(busy) from None
    try:
        yield
    finally:
        lock.release()


def held_elsewhere(path: Path) -> bool:
    """Whether a living process holds the lock."""
    if not path.exists():
        return False
    try:
        with alone(path, ""):
            return False
    except StoreBusy:
        return True


async def shielded(write: Coroutine[Any, Any, T]) -> T:
    """Run a write to its end even if the caller is cancelled meanwhile, then pass that on.

    LanceDB goes on with a write whose task was cancelled; only a lock that is held until the
    write has ended keeps the next writer out.
    """
    task = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the caller is gone; asyncio would complain that nobody has seen it
        raise
