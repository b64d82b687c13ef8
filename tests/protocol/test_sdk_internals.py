"""The canary for the MCP SDK: one test for each of its internals that ByHeart stands on.

When one fails after an upgrade, look at byheart_server/protocol/sdk_internals.py first.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_PARAMS, CallToolResult, TextContent
from pydantic import ValidationError

from byheart_server.protocol import sdk_internals
from byheart_server.protocol.surrogates import RepairedInput

PING = '{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}\n'


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


class Overriding(MCPServer[None]):
    """Overrides what ByHeartServer does."""

    async def list_tools(self) -> Any:
        return []

    async def call_tool(self, name: str, arguments: Any, context: Any = None) -> Any:
        return CallToolResult(content=[TextContent(type="text", text=f"{name} {arguments}")])

    async def read_resource(self, uri: Any, context: Any = None) -> Any:
        raise MCPError(INVALID_PARAMS, f"overridden: {uri}")

    async def get_prompt(self, name: str, *_: Any, **__: Any) -> Any:
        raise MCPError(INVALID_PARAMS, f"overridden: {name}")


async def test_requests_are_answered_by_the_public_methods_that_are_overridden() -> None:
    server = Overriding(name="canary")
    async with Client(server) as client:
        called = await client.call_tool("any", {"x": 1})
        with pytest.raises(MCPError, match="overridden: memory://x"):
            await client.read_resource("memory://x")
        with pytest.raises(MCPError, match="overridden: hello"):
            await client.get_prompt("hello")
        assert (await client.list_tools()).tools == []
    (content,) = called.content
    assert isinstance(content, TextContent)
    assert content.text == "any {'x': 1}"


@pytest.mark.parametrize("method", ["list_tools", "call_tool", "read_resource", "get_prompt"])
def test_the_overridden_methods_exist(method: str) -> None:
    assert callable(getattr(MCPServer, method, None)), f"MCPServer.{method} is gone"


def test_the_low_level_server_runs_streams() -> None:
    server: MCPServer[None] = MCPServer(name="canary")
    lowlevel = getattr(server, "_lowlevel_server", None)
    assert lowlevel is not None, "MCPServer._lowlevel_server is gone"
    assert parameters(lowlevel.run)[:3] == ["read_stream", "write_stream", "initialization_options"]
    assert lowlevel.create_initialization_options().server_name == "canary"


async def test_stdin_is_read_line_by_line_through_readline() -> None:
    assert parameters(stdio_server) == ["stdin", "stdout"]
    lines = io.BytesIO((PING + "no message\n").encode())
    stdin = anyio.wrap_file(RepairedInput(lines, encoding="utf-8"))
    stdout = anyio.wrap_file(io.TextIOWrapper(io.BytesIO()))
    async with stdio_server(stdin, stdout) as (incoming, outgoing), incoming, outgoing:
        message, refused = await incoming.receive(), await incoming.receive()
    assert isinstance(message, SessionMessage), "the repaired line was refused"
    assert message.message.id == "\ufffd"  # type: ignore[union-attr]
    assert isinstance(refused, ValidationError), "a line that is no message is told otherwise"
    assert refused.errors()[0]["type"] == "json_invalid"


def test_the_log_is_set_up_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rich.logging", raising=False)
    before = sys.modules.get("rich.console")
    with sdk_internals.without_rich():
        MCPServer(name="canary")
        assert "rich.logging" not in sys.modules, "the SDK imports rich by another way"
    assert sys.modules.get("rich.console") is before


def test_a_session_is_bound_to_the_user_in_the_scope() -> None:
    user = sdk_internals.authenticated_user("ana", "write")
    assert user.username == "ana"
    assert user.access_token.scopes == ["write"]
    source = inspect.getsource(StreamableHTTPSessionManager)
    assert 'scope.get("user")' in source, "the session manager looks for the user elsewhere"
