"""Where HTTP is served, and the socket behind it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from byheart_server.http_server.tokens import Tokens
from byheart_server.http_server.uvicorn_internals import MOST_CONNECTIONS
from byheart_store import ByHeartError, InvalidInput

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
        return [*_LOCAL_HOSTS, _any_port(host_in_url(self.host).lower()), *named]

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


def listen(listening: Listening) -> socket.socket:
    """The socket that connections come in by.

    Raises:
        ByHeartError: the address can't be listened on.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            listening.host, listening.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise ByHeartError(
            f"--http: can't listen on {host_in_url(listening.host)}:{listening.port} "
            f"({error.strerror or error}); choose another address"
        ) from None
    # asyncio does so for its own sockets only; without it each answer waits 40 ms for the client.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def host_in_url(host: str) -> str:
    """The host as a URL writes it."""
    return f"[{host}]" if ":" in host else host


def _any_port(host: str) -> str:
    _, colon, port = host.rpartition(":")
    return host if colon and port.isdecimal() and not host.endswith("]") else f"{host}:*"
