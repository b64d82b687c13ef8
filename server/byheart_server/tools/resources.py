"""The two resources: one memory in full, and the status of the store."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from mcp.server import MCPServer
from mcp.server.mcpserver.resources import ResourceSecurity

from byheart_server import installed_version
from byheart_server.access.caller import current_caller
from byheart_server.settings import Settings
from byheart_server.tools import wording
from byheart_server.tools.memory_tools import MemoryTools
from byheart_server.tools.results import QUOTED, compact_json
from byheart_store import ByHeartError

_SCHEME = "memory://"
_ADMIN_FIELDS = frozenset({"home", "location", "model", "model_problem"})
"""Fields of the status that may name a path on the server's disk."""


def add_resources(server: MCPServer[None], tools: MemoryTools, settings: Settings) -> None:
    """Give a server the resources, over the store of the tools."""

    @server.resource(
        _SCHEME + "{id}",
        name="memory",
        description=wording.MEMORY,
        mime_type="application/json",
        security=ResourceSecurity(exempt_params={"id"}),
    )
    async def memory(id: str) -> str:  # noqa: A002 - the name in the URI
        store = await tools.store()
        return compact_json({"note": QUOTED, **(await store.get(id)).as_dict()})

    @server.resource(
        "byheart://status",
        name="status",
        description=wording.STATUS,
        mime_type="application/json",
    )
    async def status() -> str:
        return compact_json(await _status(tools, settings))


def encoded_uri(uri: str) -> str:
    """The URI of a memory with its id percent-encoded once; any other as it is."""
    if not uri.startswith(_SCHEME):
        return uri
    return _SCHEME + quote(unquote(uri.removeprefix(_SCHEME)), safe="")


async def _status(tools: MemoryTools, settings: Settings) -> dict[str, Any]:
    caller = current_caller()
    report: dict[str, Any] = {"version": installed_version(), "home": str(settings.home)}
    try:
        store = await tools.store()
        counts = (await store.stats()).as_dict()
        problem = {"model_problem": store.model_problem} if store.model_problem else {}
        report |= {"model_state": store.model_state, **problem, **counts}
    except ByHeartError as error:
        report |= {"error": caller.error_text(error)}
    if caller.sees_paths:
        return report
    return {
        name: value
        for name, value in report.items()
        if name not in _ADMIN_FIELDS and value is not None
    }
