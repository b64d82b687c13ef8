"""What every HTTP request passes before the protocol sees it: host, origin, token, rate, body."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from byheart_server import installed_version
from byheart_server.access.caller import GRANT_KEY
from byheart_server.access.grants import OWNER, Grant
from byheart_server.backend import Health
from byheart_server.http_server.rate_limit import RateLimit
from byheart_server.http_server.tokens import Tokens
from byheart_server.protocol.sdk_internals import authenticated_user
from byheart_server.protocol.surrogates import repaired_body

MCP_PATH = "/mcp"
HEALTH_PATH = "/health"
LONGEST_BODY = 16 << 20
"""Bytes: a text of a million characters takes 12 MB when each is escaped as a surrogate pair."""
BODY_PATIENCE = 60.0
DRAIN_PATIENCE = 10.0


class Gateway:
    """An ASGI application around another: lets in what may come in, and says why to the rest.

    Whoever comes in has a grant in the request's scope.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        hosts: Sequence[str],
        origins: Sequence[str],
        limit: RateLimit,
        health: Callable[[], Health],
    ) -> None:
        """Without tokens everyone who comes in is the owner.

        Hosts stand with or without a port, origins as browsers send them; one that ends in `:*`
        stands for any port.
        """
        self._app = app
        self._tokens = tokens
        self._hosts = hosts
        self._origins = origins
        self._limit = limit
        self._health = health
        self._calls = 0
        self._closed_at: float | None = None

    def close(self) -> None:
        """Let nobody in from now on."""
        if self._closed_at is None:
            self._closed_at = time.monotonic()

    @property
    def is_drained(self) -> bool:
        """Whether it is closed, and the calls inside are done or were waited for long enough."""
        if self._closed_at is None:
            return False
        return not self._calls or time.monotonic() - self._closed_at > DRAIN_PATIENCE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_target(scope, headers)
            if scope["path"] == HEALTH_PATH:
                await self._send_health(scope, receive, send)
                return
            grant = self._admit(scope, headers)
            body = await _body(headers, receive) if scope["method"] == "POST" else b""
        except HTTPException as refusal:
            await _refuse(refusal, scope, receive, send)
            return
        await self._serve(_granted(scope, grant), _replaying(body, receive), send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = scope["method"] == "POST"  # a GET is a stream that the server ends
        self._calls += counted
        try:
            await self._app(scope, receive, send)
        finally:
            self._calls -= counted

    def _check_target(self, scope: Scope, headers: Headers) -> None:
        """The path and method exist, and no other page sent a browser here (DNS rebinding)."""
        methods = {MCP_PATH: ("GET", "POST", "DELETE"), HEALTH_PATH: ("GET",)}.get(scope["path"])
        if methods is None:
            raise HTTPException(404, f"there is nothing here; the server is at {MCP_PATH}")
        if scope["method"] not in methods:
            raise HTTPException(405, "method not allowed", {"Allow": ", ".join(methods)})
        if not _is_listed(headers.get("host", ""), self._hosts):
            raise HTTPException(421, "this host is not served; start with --allow-host HOST")
        origin = headers.get("origin")
        if origin is not None and not _is_listed(origin, self._origins):
            raise HTTPException(403, "this origin is not allowed; start with --allow-origin ORIGIN")

    def _admit(self, scope: Scope, headers: Headers) -> Grant:
        if self._closed_at is not None:
            raise HTTPException(503, "the server is shutting down", {"Retry-After": "5"})
        grant = self._grant(headers)
        address = scope["client"][0] if scope.get("client") else ""
        caller = f"token {grant.name}" if grant and grant.name else f"address {address}"
        if wait := self._limit.wait(caller, time.monotonic()):
            retry = str(math.ceil(wait))
            raise HTTPException(
                429, f"too many requests; try again in {retry} s", {"Retry-After": retry}
            )
        if grant is None:
            raise HTTPException(
                401,
                "a bearer token is needed: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": 'Bearer realm="byheart"'},
            )
        return grant

    def _grant(self, headers: Headers) -> Grant | None:
        if not self._tokens:
            return OWNER
        given = headers.getlist("authorization")
        scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            return None
        return self._tokens.grant_of(secret.strip().encode("latin-1"))

    async def _send_health(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = self._health()
        response = JSONResponse(
            {"status": status, "version": installed_version()}, 200 if status == "ok" else 503
        )
        await response(scope, receive, send)


async def _refuse(refusal: HTTPException, scope: Scope, receive: Receive, send: Send) -> None:
    response = JSONResponse({"error": refusal.detail}, refusal.status_code, refusal.headers)
    await response(scope, receive, send)


def _is_listed(given: str, listed: Sequence[str]) -> bool:
    """Whether a host or an origin is listed, as it stands or with any port."""
    name, colon, port = given.rpartition(":")
    any_port = f"{name}:*" if colon and port.isdecimal() else f"{given}:*"
    return given.lower() in listed or any_port.lower() in listed


def _granted(scope: Scope, grant: Grant) -> Scope:
    """The scope with what the server reads of a caller, and what the SDK binds a session to."""
    granted = {**scope, GRANT_KEY: grant}
    if grant.name is not None:
        granted["user"] = authenticated_user(grant.name, grant.access)
    return granted


async def _body(headers: Headers, receive: Receive) -> bytes:
    """The whole body, within bounds of length and time."""
    too_long = HTTPException(413, f"the body is longer than {LONGEST_BODY:,} bytes")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > LONGEST_BODY:
        raise too_long
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise HTTPException(400, "the connection ended before the body did")
                parts += message.get("body", b"")
                if len(parts) > LONGEST_BODY:
                    raise too_long
                if not message.get("more_body", False):
                    return repaired_body(bytes(parts))
    except TimeoutError:
        raise HTTPException(408, f"the body took longer than {BODY_PATIENCE:.0f} s") from None


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Gives the body first, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
