"""How the process of a server ends: at once, and with 0."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from byheart_server.backend import Backend

PARENT_POLL = 0.5


async def exit_when_told(backend: Backend) -> NoReturn:
    """Wait for SIGTERM, SIGINT or the parent's death; close the store and end the process.

    The thread that reads stdin can't be interrupted, so waiting for the event loop to unwind
    would last until the client's next word.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(signalled.set))
    parent = os.getppid()
    while os.getppid() == parent and not signalled.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(signalled.wait(), PARENT_POLL)
    await backend.close()
    exit_now()


def exit_now() -> NoReturn:
    """End the process with 0: no import under way, native thread or exit hook may delay it.

    Nothing that was printed by mistake and still lies in a buffer reaches the client either.
    """
    sys.stderr.flush()
    os._exit(0)
