"""The store behind a server: when it opens, what waits for it, and when it closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import anyio

from byheart_server.opening import open_store
from byheart_server.settings import Settings
from byheart_store import ByHeartError, MemoryStore, StoreBusy

OPENING_PATIENCE = 60.0
MODEL_PATIENCE = 60.0
CLOSING_PATIENCE = 5.0

logger = logging.getLogger(__name__)

Health = Literal["ok", "starting", "failed"]

T = TypeVar("T")


class Backend:
    """The store behind a server: opened in the background, tried again after a failure.

    Entered by each connection; the last one to leave closes the store.
    """

    def __init__(self, settings: Settings) -> None:
        """Opens nothing yet; see `start`."""
        self.settings = settings
        self._connections = 0
        self._opening: asyncio.Task[MemoryStore] | None = None
        self._writes: set[asyncio.Task[Any]] = set()
        self._closing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Count a connection."""
        self._connections += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store behind the last connection, even when it was cancelled."""
        self._connections -= 1
        if not self._connections:
            with anyio.CancelScope(shield=True):
                await self.close()

    def start(self) -> None:
        """Begin opening the store if nobody has, or if it failed."""
        if self._opening is not None and _has_failed(self._opening):
            self._opening = None
        if self._opening is None and self._connections:
            self._opening = start_task(self._open())
            self._opening.add_done_callback(_log_failure)

    def health(self) -> Health:
        """Whether the store is open; where it could not be opened, that is tried again."""
        opening = self._opening
        if opening is None or not opening.done():
            return "starting"
        if _has_failed(opening):
            self.start()
            return "failed"
        return "ok"

    async def store(self) -> MemoryStore:
        """The open store, waited for; after a failure it is opened anew.

        Raises:
            StoreBusy: it is still being opened after OPENING_PATIENCE seconds.
            ByHeartError: it can't be opened; the message says why.
        """
        self.start()
        if self._opening is None:
            raise StoreBusy("the server is shutting down; start it again")
        try:
            async with asyncio.timeout(OPENING_PATIENCE):
                return await asyncio.shield(self._opening)
        except TimeoutError:
            raise StoreBusy(
                f"{self.settings.uri or self.settings.home} is still being opened after "
                f"{OPENING_PATIENCE:.0f} s; try again"
            ) from None

    async def store_with_model(self) -> MemoryStore:
        """The open store once its model has loaded, or can't be had.

        Raises:
            StoreBusy: the model is still loading after MODEL_PATIENCE seconds.
        """
        store = await self.store()
        try:
            # Where the model can't be had, the store decides for each write what to do.
            async with asyncio.timeout(MODEL_PATIENCE):
                with suppress(ByHeartError):
                    await store.model_ready()
        except TimeoutError:
            raise StoreBusy(
                f"the embedding model is still loading after {MODEL_PATIENCE:.0f} s, nothing was "
                "stored; try again"
            ) from None
        return store

    async def finish(self, write: Coroutine[Any, Any, T]) -> T:
        """Run a write to its end even when its caller gives up; `close` waits for it."""
        task = start_task(write)
        self._writes.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, write: asyncio.Task[Any]) -> None:
        self._writes.discard(write)
        if not write.cancelled():
            write.exception()  # a caller that is gone asks for it no more; asyncio would complain

    async def close(self) -> None:
        """Let pending writes finish, then close the store; both within CLOSING_PATIENCE."""
        async with self._closing:
            if self._writes:
                await asyncio.wait(self._writes, timeout=CLOSING_PATIENCE)
            opening, self._opening = self._opening, None
            if opening is None or opening.cancel() or _has_failed(opening):
                return
            try:
                async with asyncio.timeout(CLOSING_PATIENCE):
                    await opening.result().close()
            except (ByHeartError, OSError, RuntimeError, TimeoutError):
                logger.exception("the store did not close cleanly")

    async def _open(self) -> MemoryStore:
        store = await open_store(self.settings)
        store.load_model()
        return store


def start_task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that turns SystemExit and KeyboardInterrupt into a RuntimeError.

    asyncio would end its event loop, and with it the server, when a task raises one of them.
    """
    return asyncio.create_task(_contained(work))


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    expected = isinstance(error, ByHeartError)
    logger.warning("%s", error, exc_info=None if expected else error)
