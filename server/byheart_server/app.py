"""Puts the MCP server together: `build_server`, and `serve_stdio` to run it.

`mcp dev` and `mcp run` import this file by its path, outside `sys.modules`: annotations must be
real objects here, and whatever defines classes lives elsewhere.
"""

import logging
import sys
from functools import cache
from typing import NoReturn

from byheart_server.protocol.process import exit_now
from byheart_server.protocol.server import ByHeartServer
from byheart_server.settings import Settings
from byheart_server.tools.registration import add_tools_and_resources


def build_server(settings: Settings, *, over_http: bool = False) -> ByHeartServer:
    """The server over the store that the settings name; nothing is opened yet.

    Over HTTP each request has to bring a grant; otherwise whoever calls is the owner.
    """
    server = ByHeartServer(settings, over_http=over_http)
    add_tools_and_resources(server, server.backend)
    return server


def serve_stdio(settings: Settings) -> NoReturn:
    """Serve one client over stdio until it leaves; ends the process with 0."""
    log_to_stderr()
    build_server(settings).run("stdio")
    exit_now()


def log_to_stderr() -> None:
    """Print warnings and errors to stderr: stdout belongs to the protocol."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="byheart: %(levelname)s: %(message)s"
    )


@cache
def _server_from_environment() -> ByHeartServer:
    return build_server(Settings.from_environment())


def __getattr__(name: str) -> ByHeartServer:
    # `mcp dev` and `mcp run` look for this name; building a server on import would cost every
    # other caller of this module.
    if name == "mcp":
        return _server_from_environment()
    raise AttributeError(name)
