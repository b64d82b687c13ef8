"""One at a time: within the process, between processes, and through cancellation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import FileLock, Timeout

from byheart_store.errors import StoreBusy

T = TypeVar("T")


class ProcessLock(Protocol):
    """What keeps processes apart; its name says where to look."""

    async def acquire(self, patience: float) -> None:
        """Raises TimeoutError when others kept it for longer than the patience, in seconds."""

    async def release(self) -> None:
        """Let others in."""

    @property
    def may_stay(self) -> bool:
        """Whether the next writer of this process may go on without a release in between."""

    def check(self) -> None:
        """Raises StoreBusy when it is not held any more."""


class FileProcessLock:
    """A file lock: the system frees that of a process that dies, so none is ever stale."""

    may_stay = False

    def __init__(self, path: Path) -> None:
        """Nothing is made on disk yet."""
        self._path = path
        self._lock = FileLock(path, thread_local=False)

    def __str__(self) -> str:
        return str(self._path)

    async def acquire(self, patience: float) -> None:
        """Take the lock; a free one costs no thread."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            await self._wait(patience)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.to_thread(self._lock.acquire, timeout=seconds, poll_interval=0.01)
        except Timeout:
            raise TimeoutError from None

    async def release(self) -> None:
        """Free the lock."""
        self._lock.release()

    def check(self) -> None:
        """Nobody can take it away."""


class WriteLock:
    """An asyncio lock around one that holds between processes, or between hosts."""

    def __init__(self, process_lock: Path | ProcessLock, patience: float) -> None:
        """`patience` is the longest wait in seconds for other writers."""
        self._process_lock = (
            FileProcessLock(process_lock) if isinstance(process_lock, Path) else process_lock
        )
        self._patience = patience
        self._task_lock = asyncio.Lock()
        self._waiting = 0
        self._has_stayed = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock.

        Raises:
            StoreBusy: another process kept it for longer than the patience.
        """
        deadline = time.monotonic() + self._patience
        await self._enter()
        try:
            await self._acquire(max(0.0, deadline - time.monotonic()))
            try:
                yield
            finally:
                self._has_stayed = bool(self._waiting) and self._process_lock.may_stay
                if not self._has_stayed:
                    await self._process_lock.release()
        finally:
            self._task_lock.release()

    def check(self) -> None:
        """Raises StoreBusy when the lock that was held was lost, so that nothing is written."""
        self._process_lock.check()

    async def _enter(self) -> None:
        self._waiting += 1
        try:
            await asyncio.wait_for(self._task_lock.acquire(), self._patience)
        except TimeoutError:
            raise self._busy("others have") from None
        finally:
            self._waiting -= 1
            if self._has_stayed and not self._waiting and not self._task_lock.locked():
                await self._leave()

    async def _leave(self) -> None:
        """Let go of what had stayed for somebody who does not come any more."""
        async with self._task_lock:
            if self._has_stayed:
                self._has_stayed = False
                await self._process_lock.release()

    async def _acquire(self, patience: float) -> None:
        stayed, self._has_stayed = self._has_stayed, False
        if stayed:
            with suppress(StoreBusy):
                self.check()
                return
            await self._process_lock.release()
        try:
            await self._process_lock.acquire(patience)
        except TimeoutError:
            raise self._busy("another process has") from None

    def _busy(self, who: str) -> StoreBusy:
        return StoreBusy(
            f"{who} been writing for {self._patience:g} s (lock: {self._process_lock}); try again"
        )


async def shielded(write: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
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
