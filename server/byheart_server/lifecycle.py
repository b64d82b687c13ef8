"""When the store of a server opens, when it closes, and when its process leaves."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar

import anyio

from byheart_server.opening import open_store
from byheart_server.settings import Settings
from byheart_store import ByHeartError, MemoryStore, StoreBusy
from byheart_store.inputs import as_utf8

OPENING_PATIENCE = 60.0
MODEL_PATIENCE = 60.0
CLOSING_PATIENCE = 5.0
PARENT_POLL = 0.5

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
            self._opening = begin(self._open())
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
            # A model that can't be had is the store's to judge, write by write.
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
        task = begin(write)
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


def begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that no failure of the work lets out: asyncio ends its loop at SystemExit."""
    return asyncio.create_task(_contained(work))


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


async def leave_when_told(backend: Backend) -> NoReturn:
    """Wait for SIGTERM, SIGINT or the parent's death; close the store and end the process.

    The thread that reads stdin can't be interrupted, so waiting for the event loop to unwind
    would last until the client's next word.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(told.set))
    parent = os.getppid()
    while os.getppid() == parent and not told.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), PARENT_POLL)
    await backend.close()
    leave()


def leave() -> NoReturn:
    """End the process with 0: no import under way, native thread or exit hook may delay it.

    Nothing that was printed by mistake and still lies in a buffer reaches the client either.
    """
    sys.stderr.flush()
    os._exit(0)


class MendedInput(io.TextIOWrapper):
    """UTF-8 lines of JSON in which lone surrogates read as U+FFFD.

    JavaScript clients send them, the SDK's parser refuses the whole line, and a refused line is
    never answered.
    """

    @classmethod
    def take_stdin(cls) -> MendedInput:
        """Move the process's standard input here, so that children read from the null device."""
        wire = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return cls(os.fdopen(wire, "rb"), encoding="utf-8", errors="replace")

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """The next line, mended."""
        line = super().readline(size)
        return mended(line) if "\\ud" in line or "\\uD" in line else line


def mended(line: str) -> str:
    """JSON whose lone surrogates are replaced by U+FFFD, on a line; what is no JSON stays."""
    try:
        return as_utf8(json.dumps(json.loads(line), ensure_ascii=False)) + "\n"
    except (ValueError, RecursionError):
        return line


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    expected = isinstance(error, ByHeartError)
    logger.warning("%s", error, exc_info=None if expected else error)
