"""All that ByHeart takes from the MCP SDK beyond its documented interface.

Nothing else in the server names a private part of the SDK or counts on how it works inside.
tests/protocol/test_sdk_internals.py checks each point below, so that a new version of the SDK
which moves one fails there, by name:

- `MCPServer` answers a request by calling its own public `list_tools`, `call_tool`,
  `read_resource` and `get_prompt`, which `ByHeartServer` overrides.
- `MCPServer._lowlevel_server` has `run(incoming, outgoing, options)` and
  `create_initialization_options()`: the only way to serve streams that pass a filter.
- `stdio_server(stdin=...)` takes an asynchronous text file, reads it line by line, and puts the
  pydantic `ValidationError` of a line that is no message among the messages.
- `mcp.shared._stream_protocols` names the types of those streams.
- `MCPServer.__init__` sets up logging with `rich`, and without where `rich.console` can't be
  imported.
- The session manager binds an HTTP session to the user of a request, whom it finds as
  `scope["user"]`, an `AuthenticatedUser`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.stdio import stdio_server
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage

Incoming = SessionMessage | Exception
"""What the transport reads: a message, or why a line is none."""

InStream = ReadStream[Incoming]
OutStream = WriteStream[SessionMessage]


def stdio_streams(
    stdin: io.TextIOWrapper,
) -> AbstractAsyncContextManager[tuple[InStream, OutStream]]:
    """Messages from the lines of a file, and to the process's standard output."""
    return stdio_server(stdin=anyio.wrap_file(stdin))


async def serve_streams(server: MCPServer[Any], incoming: InStream, outgoing: OutStream) -> None:
    """Answer the messages of one client until they end."""
    lowlevel = server._lowlevel_server
    await lowlevel.run(incoming, outgoing, lowlevel.create_initialization_options())


def authenticated_user(name: str, access: str) -> AuthenticatedUser:
    """What has to stand as `user` in a request's scope for its session to belong to this name."""
    return AuthenticatedUser(AccessToken(token="", client_id=name, scopes=[access]))


@contextmanager
def without_rich() -> Iterator[None]:
    """Keep the SDK from importing rich for a log handler: a tenth of the time to start."""
    name = "rich.console"
    present = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if present is not None:
            sys.modules[name] = present
