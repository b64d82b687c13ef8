"""What is turned away at the gateway, and that it tells nothing and harms nobody."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import MCPError

from byheart_server import installed_version
from byheart_server.http_server.gateway import LONGEST_BODY, Gateway
from byheart_server.http_server.rate_limit import RateLimit
from byheart_server.http_server.tokens import TokenEntry, Tokens

from .serving import ACCEPT, SECRETS, Served, bearer, envelope, headers, served

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "wire", "version": "1"},
    },
}
MALFORMED = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[1, 2]",
    "a null": b"null",
    "no UTF-8": b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}',
    "deep nesting": b"[" * 200_000,
    "a long number": b'{"jsonrpc":"2.0","method":"x","id":' + b"9" * 10_000 + b"}",
    "no method": b'{"jsonrpc": "2.0", "id": 1}',
}


def test_a_call_with_a_token_is_answered(server: Served) -> None:
    assert "result" in server.call("recall", query="anything").json()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {SECRETS['ana']}"},
        {"Authorization": f"Bearer {SECRETS['ana']}x"},
        {"Authorization": f"Bearer {SECRETS['ana'][:-1]}"},
        {"Authorization": "Bearer \xff"},
    ],
)
def test_without_a_known_token_nobody_comes_in(server: Served, given: dict[str, str]) -> None:
    sent = {**headers("recall", None), **given}
    raw = {name: value.encode("latin-1") for name, value in sent.items()}
    answer = server.request(headers=raw, json=envelope("recall", {"query": "x"}))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="byheart"'
    assert answer.json() == {"error": "a bearer token is needed: Authorization: Bearer TOKEN"}


def test_an_answer_does_not_wait_for_the_clients_system(server: Served) -> None:
    """With Nagle's algorithm each one is held back for some 40 ms."""
    seconds = []
    with httpx2.Client() as http:
        for _ in range(20):
            began = time.perf_counter()
            http.post(server.url, headers=headers("recall", "ana"), json=envelope("none", {}))
            seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.03


def test_a_token_in_the_address_is_none(server: Served) -> None:
    path = f"/mcp?token={SECRETS['ana']}&access_token={SECRETS['ana']}"
    assert server.request(path=path, headers=headers("recall", None)).status_code == 401


@pytest.mark.parametrize("path", ["/", "/mcp/", "/MCP", "/.well-known/oauth-protected-resource"])
def test_elsewhere_there_is_nothing(server: Served, path: str) -> None:
    assert server.request("GET", path).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "HEAD", "PATCH", "TRACE"])
def test_other_methods_are_refused(server: Served, method: str) -> None:
    answer = server.request(method, headers=bearer("ana"))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST, DELETE")


def test_health_needs_no_token_and_tells_no_counts(server: Served) -> None:
    answer = server.request("GET", "/health")
    assert answer.json() == {"status": "ok", "version": installed_version()}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"Host": "rebound.example"}, 421),
        ({"Host": "127.0.0.1.rebound.example:80"}, 421),
        ({"Host": "localhost"}, 200),
        ({"Origin": "https://rebound.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.rebound.example"}, 403),
        ({"Origin": "http://localhost:6274"}, 200),
    ],
)
def test_a_browser_that_was_lured_here_is_refused(
    server: Served, sent: dict[str, str], code: int
) -> None:
    given = {**headers("recall", "ana"), **sent}
    answer = server.request(headers=given, json=envelope("recall", {"query": "x"}))
    assert answer.status_code == code


def test_who_is_named_comes_in_from_elsewhere(tmp_path: Path) -> None:
    origin = {"Origin": "https://app.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    named = ["--allow-host", "Memory.example", "--allow-origin", origin["Origin"]]
    with served(
        tmp_path, "--http", "0.0.0.0:0", *named, BYHEART_TOKEN="a-secret-of-the-team"
    ) as server:
        preflight = server.request("OPTIONS", headers=origin | asked)
        codes = {
            host: server.request(
                headers={**headers("none", "a-secret-of-the-team"), **origin, "Host": host},
                json=envelope("none", {}),
            ).status_code
            for host in ("memory.example", "memory.example:443", "other.example")
        }
    assert preflight.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert codes == {"memory.example": 200, "memory.example:443": 200, "other.example": 421}


def test_a_text_of_a_million_escaped_characters_comes_in(server: Served) -> None:
    body = json.dumps(envelope("remember", {"text": "🫖" * 1_000_001}))
    answer = server.request(headers=headers("remember", "ana"), content=body)
    assert len(body) > 12_000_000
    assert "store it in parts" in answer.text


def test_a_longer_body_is_refused(server: Served) -> None:
    answer = server.request(headers=headers("recall", "ana"), content="x" * (LONGEST_BODY + 1))
    assert answer.status_code == 413


def test_a_body_that_does_not_say_its_length_is_bounded_too(server: Served) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(LONGEST_BODY // 65_536 + 2):
            yield b" " * 65_536

    assert server.request(headers=headers("recall", "ana"), content=endless()).status_code == 413


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("body", MALFORMED)
def test_what_is_no_message_is_refused(server: Served, body: str, version: str) -> None:
    sent = {**headers("recall", "ana"), "MCP-Protocol-Version": version}
    answer = server.request(headers=sent, content=MALFORMED[body])
    assert answer.status_code == 400
    assert "Traceback" not in answer.text
    assert str(server.log.parent) not in answer.text


def test_half_a_character_is_mended(server: Served) -> None:
    body = json.dumps(envelope("recall", {"query": "tea \ud83e pot"}))
    answer = server.request(headers=headers("recall", "ana"), content=body.encode("ascii"))
    assert "result" in answer.json()


def test_a_session_of_another_token_is_as_unknown_as_none(server: Served) -> None:
    sent = {"Accept": ACCEPT, **bearer("ana")}
    session = server.request(headers=sent, json=INITIALIZE).headers["Mcp-Session-Id"]

    def listed(token: str, session_id: str) -> httpx2.Response:
        given = {"Accept": ACCEPT, "Mcp-Session-Id": session_id, **bearer(token)}
        message = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        return server.request(headers=given, json=message)

    assert listed("ana", session).status_code == 200
    foreign, unknown = listed("ben", session), listed("ben", "0" * 32)
    assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text)
    assert foreign.status_code == 404


def test_who_sends_slowly_holds_up_nobody(server: Served) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/mcp").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(20)]
    for connection in slow:
        connection.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    assert "result" in server.call("recall", query="anything").json()
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("length", ["9" * 5_000, "-1", "1e9", "²", ""])
def test_a_length_that_is_none_is_refused(server: Served, length: str) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/mcp").split(":")
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Authorization: Bearer {SECRETS['ana']}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


def test_bytes_that_are_no_http_are_answered_and_forgotten(server: Served) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/mcp").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.request("GET", "/health").status_code == 200


async def test_a_prompt_is_none_and_leaves_no_trace(server: Served) -> None:
    async with server.agent("ana") as ana:
        with pytest.raises(MCPError, match="there is no prompt"):
            await ana.client.get_prompt("forged\nbyheart: ERROR: line", {})
    assert "forged" not in server.log.read_text()


def test_no_secret_reaches_the_log(server: Served) -> None:
    server.call("recall", query="anything")
    server.call("recall", "wrong-but-secret-token", query="anything")
    log = server.log.read_text()
    assert "Traceback" not in log
    assert not [secret for secret in (*SECRETS.values(), "wrong-but") if secret in log]


async def test_too_many_requests_are_told_when_to_come_back() -> None:
    entry = {"name": "ana", "access": "read", "namespaces": "all", "token": SECRETS["ana"]}
    gateway = Gateway(
        _answering,
        tokens=Tokens([TokenEntry.model_validate(entry)]),
        hosts=["localhost:*"],
        origins=[],
        limit=RateLimit(rate=0.1, burst=2),
        health=lambda: "ok",
    )
    transport = httpx2.ASGITransport(app=gateway)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        codes = [(await http.post("/mcp", headers=bearer("ana"))).status_code for _ in range(3)]
        refused = await http.post("/mcp", headers=bearer("ana"))
        stranger = await http.post("/mcp", headers=bearer("wrong"))
    assert codes == [200, 200, 429]
    assert refused.headers["Retry-After"] == "10"
    assert stranger.status_code == 401


async def _answering(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
