"""Serves a store over streamable HTTP: where to listen, how long to wait, how to leave."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import click
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from byheart_server.app import ByHeartServer, build_server
from byheart_server.door import LONGEST_BODY, MCP_PATH, Door
from byheart_server.lifecycle import leave
from byheart_server.rate import RateLimit
from byheart_server.settings import Settings
from byheart_server.tokens import Tokens
from byheart_store import ByHeartError, InvalidInput

MOST_CONNECTIONS = 500
MOST_SESSIONS = 1_000
SESSION_PATIENCE = 30 * 60
HEAD_PATIENCE = 30.0
KEEP_ALIVE = 60
CLOSING_PATIENCE = 5
BURST = 2.0
"""Seconds of the rate that may be spent at once."""

_LOCAL_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")
_LOCAL_ORIGINS = tuple(
    f"{scheme}://{host}" for scheme in ("http", "https") for host in _LOCAL_HOSTS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where HTTP is served, and for whom; `rate` is in requests a second, per token or address."""

    host: str
    port: int
    tokens: Tokens
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    rate: float = 50.0

    def __post_init__(self) -> None:
        if not self.is_local and not self.tokens:
            raise InvalidInput(
                f"--http: {self.host} can be reached from elsewhere, and there is no token; give "
                "--tokens FILE or BYHEART_TOKEN, or listen on 127.0.0.1"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def hosts(self) -> list[str]:
        """What a request may give as its host."""
        named = [_any_port(host.lower()) for host in self.allowed_hosts]
        return [*_LOCAL_HOSTS, _any_port(_in_url(self.host).lower()), *named]

    @property
    def origins(self) -> list[str]:
        """The web pages that may send a request."""
        named = [origin.lower().rstrip("/") for origin in self.allowed_origins]
        return [*(_LOCAL_ORIGINS if self.is_local else ()), *named]


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT; no host means this machine alone, and port 0 any free one.

    Raises:
        InvalidInput: it is no address.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65_535:
        raise InvalidInput(f"--http: {address!r} is no HOST:PORT; write 127.0.0.1:8000 or :0")
    return host or "127.0.0.1", int(port)


def serve_http(settings: Settings, listening: Listening) -> NoReturn:
    """Serve over HTTP until told to leave; ends the process with 0.

    Raises:
        ByHeartError: the address can't be listened on.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="byheart: %(levelname)s: %(message)s"
    )
    listener = _bound(listening)
    url = f"http://{_in_url(listening.host)}:{listener.getsockname()[1]}{MCP_PATH}"
    server = build_server(settings, over_http=True)
    door = _door(server, listening)
    asyncio.run(_Listener(url, door, server, listening.allowed_origins).serve([listener]))
    leave()


def _door(server: ByHeartServer, listening: Listening) -> Door:
    app = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        # Whatever servers share, the next request may reach another one than the last.
        stateless_http=server.backend.settings.uri is not None,
        max_request_body_size=LONGEST_BODY,
        session_idle_timeout=SESSION_PATIENCE,
        max_sessions=MOST_SESSIONS,
        host="",  # the door has checked it
    )
    return Door(
        app,
        tokens=listening.tokens,
        hosts=listening.hosts,
        origins=listening.origins,
        limit=RateLimit(listening.rate, BURST * listening.rate),
        health=server.backend.health,
    )


class _Listener(uvicorn.Server):
    """Uvicorn that lets the calls under way finish before it ends anything."""

    def __init__(self, url: str, door: Door, server: ByHeartServer, origins: Sequence[str]) -> None:
        self._url = url
        self._door = door
        self._backend = server.backend
        super().__init__(
            uvicorn.Config(
                _for_browsers(door, origins),
                http=_ImpatientProtocol,
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
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        click.echo(f"byheart: serving {self._url}", err=True)
        self._backend.start()

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._door.is_drained
        return await super().on_tick(counter)

    def handle_exit(self, _signal: int, _frame: FrameType | None) -> None:
        self._door.close()


class _ImpatientProtocol(H11Protocol):
    """A connection that is one too many, or sends no whole request, is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def _expect_request(self) -> None:
        self.loop.call_later(HEAD_PATIENCE, self._close_if_slow, self.cycle)

    def _close_if_slow(self, last: Any) -> None:
        if self.transport.is_closing():
            return
        is_waiting = self.cycle is last and (last is None or last.response_complete)
        if is_waiting and self.timeout_keep_alive_task is None:
            self.transport.abort()
        else:
            self._expect_request()


def _for_browsers(door: Door, origins: Sequence[str]) -> ASGIApp:
    if not origins:
        return door
    return CORSMiddleware(
        door,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Mcp-Session-Id", "Retry-After", "WWW-Authenticate"],
    )


def _bound(listening: Listening) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            listening.host, listening.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise ByHeartError(
            f"--http: can't listen on {_in_url(listening.host)}:{listening.port} "
            f"({error.strerror or error}); choose another address"
        ) from None
    # asyncio does so for its own sockets only; without it each answer waits 40 ms for the client.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _any_port(host: str) -> str:
    _, colon, port = host.rpartition(":")
    return host if colon and port.isdecimal() and not host.endswith("]") else f"{host}:*"
