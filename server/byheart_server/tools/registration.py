"""Adds the tools and the resources to a server."""

from __future__ import annotations

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from byheart_server.backend import Backend
from byheart_server.tools import wording
from byheart_server.tools.memory_tools import MemoryTools
from byheart_server.tools.resources import add_resources


def add_tools_and_resources(server: MCPServer[None], backend: Backend) -> None:
    """Give a server what it offers, over the store of the backend."""
    tools = MemoryTools(backend)
    writes = _annotations(idempotent=True)
    server.add_tool(tools.remember, description=wording.REMEMBER, annotations=writes)
    server.add_tool(
        tools.recall,
        description=wording.RECALL,
        annotations=_annotations(read_only=True, idempotent=True),
    )
    server.add_tool(tools.feedback, description=wording.FEEDBACK, annotations=writes)
    server.add_tool(
        tools.forget,
        description=wording.FORGET,
        annotations=_annotations(destructive=True, idempotent=True),
    )
    server.add_tool(tools.reindex, description=wording.REINDEX, annotations=writes)
    add_resources(server, tools, backend.settings)


def _annotations(
    *, read_only: bool = False, destructive: bool = False, idempotent: bool = False
) -> ToolAnnotations:
    return ToolAnnotations(
        read_only_hint=read_only,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=False,
    )
