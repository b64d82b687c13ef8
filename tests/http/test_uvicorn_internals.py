"""The canary for uvicorn: one test for each of its internals that ByHeart stands on.

When one fails after an upgrade, look at byheart_server/http_server/uvicorn_internals.py first.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from byheart_server.http_server.uvicorn_internals import DrainingServer, ImpatientProtocol

# Not handle_exit: sse-starlette, which the MCP SDK imports, replaces it by a function of *args.
SIGNATURES = {"startup": ["self", "sockets"], "on_tick": ["self", "counter"]}
ATTRIBUTES = ("connections", "loop", "transport", "cycle", "timeout_keep_alive_task")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers nothing."""


@pytest.mark.parametrize("method", SIGNATURES)
def test_the_overridden_methods_of_the_server_take_what_they_took(method: str) -> None:
    overridden = getattr(uvicorn.Server, method, None)
    assert overridden is not None, f"uvicorn.Server.{method} is gone"
    assert list(inspect.signature(overridden).parameters) == SIGNATURES[method]


async def test_the_server_tells_of_its_start_and_its_signal_and_ends_once_drained() -> None:
    started, signalled = asyncio.Event(), asyncio.Event()
    server = DrainingServer(
        uvicorn.Config(app, lifespan="off", log_config=None, ws="none"),
        on_started=started.set,
        on_signal=signalled.set,
        is_drained=signalled.is_set,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        async with asyncio.timeout(10):
            await started.wait()
            assert not server.should_exit
            signal.raise_signal(signal.SIGINT)
            await serving
    assert signalled.is_set()


async def test_a_connection_has_what_impatience_looks_at() -> None:
    config = uvicorn.Config(app, http=ImpatientProtocol, log_config=None, ws="none")
    config.load()
    connection = ImpatientProtocol(config, ServerState(), {})
    missing = [name for name in ATTRIBUTES if not hasattr(connection, name)]
    assert not missing, f"H11Protocol no longer has {missing}"
    assert connection.connections is connection.server_state.connections
    assert list(inspect.signature(H11Protocol.connection_made).parameters) == ["self", "transport"]
    source = inspect.getsource(inspect.getmodule(H11Protocol) or H11Protocol)
    assert "response_complete" in source, "a request no longer says that it was answered"
