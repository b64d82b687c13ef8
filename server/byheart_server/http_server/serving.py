"""Serves a store over streamable HTTP, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn

import click
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from byheart_server.app import build_server, log_to_stderr
from byheart_server.http_server.gateway import LONGEST_BODY, MCP_PATH, Gateway
from byheart_server.http_server.listening import Listening, host_in_url, listen
from byheart_server.http_server.rate_limit import RateLimit
from byheart_server.http_server.uvicorn_internals import DrainingServer, ImpatientProtocol
from byheart_server.protocol.process import exit_now
from byheart_server.protocol.server import ByHeartServer
from byheart_server.settings import Settings

MOST_SESSIONS = 1_000
SESSION_PATIENCE = 30 * 60
KEEP_ALIVE = 60
CLOSING_PATIENCE = 5
BURST = 2.0
"""Seconds of the rate that may be spent at once."""


def serve_http(settings: Settings, listening: Listening) -> NoReturn:
    """Serve over HTTP until told to stop; ends the process with 0.

    Raises:
        ByHeartError: the address can't be listened on.
    """
    log_to_stderr()
    listener = listen(listening)
    url = f"http://{host_in_url(listening.host)}:{listener.getsockname()[1]}{MCP_PATH}"
    server = build_server(settings, over_http=True)
    gateway = _gateway(server, listening)

    def started() -> None:
        click.echo(f"byheart: serving {url}", err=True)
        server.backend.start()

    draining = DrainingServer(
        _config(_for_browsers(gateway, listening.allowed_origins)),
        on_started=started,
        on_signal=gateway.close,
        is_drained=lambda: gateway.is_drained,
    )
    asyncio.run(draining.serve([listener]))
    exit_now()


def _gateway(server: ByHeartServer, listening: Listening) -> Gateway:
    app = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        # Whatever servers share, the next request may reach another one than the last.
        stateless_http=server.backend.settings.uri is not None,
        max_request_body_size=LONGEST_BODY,
        session_idle_timeout=SESSION_PATIENCE,
        max_sessions=MOST_SESSIONS,
        host="",  # the gateway has checked it
    )
    return Gateway(
        app,
        tokens=listening.tokens,
        hosts=listening.hosts,
        origins=listening.origins,
        limit=RateLimit(listening.rate, BURST * listening.rate),
        health=server.backend.health,
    )


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # an address is what the limit counts by: nobody may name it
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=CLOSING_PATIENCE,
    )


def _for_browsers(gateway: Gateway, origins: Sequence[str]) -> ASGIApp:
    if not origins:
        return gateway
    return CORSMiddleware(
        gateway,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Mcp-Session-Id", "Retry-After", "WWW-Authenticate"],
    )
