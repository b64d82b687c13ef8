"""All that ByHeart takes from uvicorn beyond its documented interface.

Nothing else in the server overrides a part of uvicorn. tests/http/test_uvicorn_internals.py checks
each point below, so that a new version of uvicorn which moves one fails there, by name:

- `Server.serve` awaits `startup(sockets)` once it can listen, calls `on_tick(counter)` every
  tenth of a second and ends when that is true, and hands signals to `handle_exit(sig, frame)`.
- `Server.should_exit` tells it to shut down.
- `H11Protocol` has `connections` (all that are open), `loop`, `transport`, `cycle` (the last
  request, with `response_complete`) and `timeout_keep_alive_task` (set while it idles).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 500
HEAD_PATIENCE = 30.0


class DrainingServer(uvicorn.Server):
    """Uvicorn that lets the calls under way finish before it ends anything."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_started: Callable[[], None],
        on_signal: Callable[[], None],
        is_drained: Callable[[], bool],
    ) -> None:
        """After a signal it goes on until `is_drained`."""
        super().__init__(config)
        self._on_started = on_started
        self._on_signal = on_signal
        self._is_drained = is_drained

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        """Whether to shut down now."""
        self.should_exit = self.should_exit or self._is_drained()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal, which would end uvicorn at once."""
        self._on_signal()


class ImpatientProtocol(H11Protocol):
    """A connection that is one too many, or sends no whole request, is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turn away what is one too many, and wait for a request from the rest."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def _expect_request(self) -> None:
        self.loop.call_later(HEAD_PATIENCE, self._close_if_slow, self.cycle)

    def _close_if_slow(self, last: Any) -> None:
        if self.transport.is_closing():
            return
        is_waiting = self.cycle is last and (last is None or last.response_complete)
        if is_waiting and self.timeout_keep_alive_task is None:
            self.transport.abort()
        else:
            self._expect_request()
