"""`byheart serve`: the MCP server."""

from __future__ import annotations

from pathlib import Path

import click

from byheart_server.commands.options import settings_options
from byheart_server.settings import Settings
from byheart_store.allocator import limit_arenas


@click.command("serve")
@settings_options()
@click.option(
    "--http",
    "address",
    metavar="HOST:PORT",
    help="Serve streamable HTTP at http://HOST:PORT/mcp instead; :0 takes a free port, locally.",
)
@click.option(
    "--tokens",
    "token_file",
    envvar="BYHEART_TOKENS",
    type=click.Path(path_type=Path),
    help="JSON file of the bearer tokens that are let in.  [$BYHEART_TOKENS; $BYHEART_TOKEN "
    "is one more, for everything]",
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="HOST", help="Serve this host name; repeatable."
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let web pages of this origin in, https://app.example; repeatable.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=50.0,
    show_default=True,
    help="Requests a second that each token, or address without one, may send; twice that at once.",
)
def serve_command(
    settings: Settings,
    address: str | None,
    token_file: Path | None,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    rate: float,
) -> None:
    """Serve the store to an MCP client on stdio, or to many over HTTP."""
    limit_arenas()
    if address is None:
        source = click.get_current_context().get_parameter_source("token_file")
        if source is click.core.ParameterSource.COMMANDLINE or hosts or origins:
            raise click.UsageError("--tokens, --allow-host and --allow-origin go with --http")
        from byheart_server.app import serve_stdio

        serve_stdio(settings)

    from byheart_server.http_server.listening import Listening, parse_address
    from byheart_server.http_server.serving import serve_http
    from byheart_server.http_server.tokens import read_tokens

    host, port = parse_address(address)
    listening = Listening(
        host=host,
        port=port,
        tokens=read_tokens(token_file),
        allowed_hosts=hosts,
        allowed_origins=origins,
        rate=rate,
    )
    serve_http(settings, listening)
