"""`byheart serve`: the MCP server."""

from __future__ import annotations

import click

from byheart_server.commands.options import settings_options
from byheart_server.settings import Settings


@click.command("serve")
@settings_options()
def serve_command(settings: Settings) -> None:
    """Serve the store to an MCP client on stdio."""
    from byheart_server.app import serve_stdio

    serve_stdio(settings)
