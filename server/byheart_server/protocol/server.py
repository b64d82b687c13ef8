"""The MCP server without its tools: whom it answers, and what becomes of an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    InputRequiredResult,
    TextContent,
    Tool,
)
from pydantic import AnyUrl

from byheart_server import installed_version
from byheart_server.access.caller import Caller, acting_for, current_caller
from byheart_server.backend import Backend
from byheart_server.protocol.errors import (
    internal_error,
    resource_error,
    tool_error,
    unknown_argument,
    unknown_tool,
)
from byheart_server.protocol.malformed import messages_only
from byheart_server.protocol.process import exit_now, exit_when_told
from byheart_server.protocol.sdk_internals import serve_streams, stdio_streams, without_rich
from byheart_server.protocol.surrogates import RepairedInput
from byheart_server.settings import Settings
from byheart_server.tools.resources import encoded_uri
from byheart_server.tools.results import compact_json
from byheart_server.tools.schemas import slim
from byheart_server.tools.wording import INSTRUCTIONS
from byheart_store import AccessDenied

# A background import holds the interpreter's lock; a client that stays silent after the
# handshake gets the store opened this much later.
QUIET_START = 0.5
_HANDSHAKE = frozenset({"initialize", "server/discover"})


class ByHeartServer(MCPServer[None]):
    """An MCPServer whose errors say what to do next, and whose process ends cleanly."""

    def __init__(self, settings: Settings, *, over_http: bool = False) -> None:
        """A server without tools; `build_server` adds them."""
        self.backend = Backend(settings)
        self._over_http = over_http
        self._arguments: dict[str, list[str]] = {}
        with without_rich():
            super().__init__(
                name="byheart",
                title="ByHeart",
                version=installed_version(),
                instructions=INSTRUCTIONS,
                log_level="WARNING",
                lifespan=self._serving,
                middleware=[self._answer],
            )

    async def list_tools(self) -> list[Tool]:
        """The tools that the caller may use, with schemas that cost few tokens."""
        grant = current_caller().grant
        tools = [tool for tool in await super().list_tools() if grant.allows(tool.name)]
        return [
            tool.model_copy(
                update={
                    "input_schema": {**slim(tool.input_schema), "additionalProperties": False},
                    "output_schema": slim(tool.output_schema or {}),
                }
            )
            for tool in tools
        ]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; whatever goes wrong in it becomes a ToolError that says what to do."""
        await self._check_call(name, arguments)
        # Some clients write null for an argument that they leave out.
        given = {key: value for key, value in arguments.items() if value is not None}
        try:
            result = await super().call_tool(name, given, context)
        except ToolError as error:
            raise tool_error(name, error) from error
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise ToolError(f"{name} was interrupted; try again") from None
        except BaseException as error:  # a native panic is none of Exception's
            if isinstance(error, Exception):
                raise
            raise internal_error(name, error) from error
        if isinstance(result, CallToolResult):
            text = compact_json(result.structured_content)
            result.content = [TextContent(type="text", text=text)]
        return result

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource; an id may be percent-encoded or stand as it is."""
        try:
            return await super().read_resource(encoded_uri(str(uri)), context)
        except ResourceError as error:
            raise resource_error(error) from error
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise ResourceError("reading was interrupted; try again") from None

    async def get_prompt(self, name: str, *_: Any, **__: Any) -> NoReturn:
        """There are none; without this the log would take the caller's name for one, unescaped."""
        raise MCPError(INVALID_PARAMS, f"there is no prompt {name[:60]!r}; there are only tools")

    async def run_stdio_async(self) -> None:
        """Serve the client on stdin and stdout; the process ends with it."""
        exiting = asyncio.create_task(exit_when_told(self.backend))
        async with (
            stdio_streams(RepairedInput.take_stdin()) as (incoming, outgoing),
            messages_only(incoming, outgoing) as messages,
        ):
            await serve_streams(self, messages, outgoing)
        exiting.cancel()
        exit_now()

    @asynccontextmanager
    async def _serving(self, _: MCPServer[None]) -> AsyncIterator[None]:
        async with self.backend:
            yield

    async def _answer(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        if ctx.method in _HANDSHAKE:
            asyncio.get_running_loop().call_later(QUIET_START, self.backend.start)
        else:
            self.backend.start()
        with acting_for(Caller.of(ctx, over_http=self._over_http)):
            return await call_next(ctx)

    async def _check_call(self, name: str, arguments: dict[str, Any]) -> None:
        """Raises ToolError where the tool, the caller's access or an argument does not exist."""
        if not self._arguments:
            tools = await super().list_tools()
            self._arguments = {tool.name: list(tool.input_schema["properties"]) for tool in tools}
        if name not in self._arguments:
            raise unknown_tool(name, list(self._arguments))
        try:
            current_caller().grant.check(name)
        except AccessDenied as error:
            raise ToolError(str(error)) from error
        known = self._arguments[name]
        for argument in arguments:
            if argument not in known:
                raise unknown_argument(name, argument, known)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
