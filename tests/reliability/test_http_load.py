"""A server under load: told to leave it keeps what it acknowledged; nobody can hold it up."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from byheart_server.http_server.gateway import BODY_PATIENCE
from byheart_server.http_server.uvicorn_internals import HEAD_PATIENCE, MOST_CONNECTIONS
from byheart_store import MemoryStore

from ..http.serving import ACCEPT, Served, bearer, served, token_file

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]

CALLERS = 8


def remember_until_refused(server: Served, name: int, acknowledged: list[str]) -> None:
    """One write after the other, each in its own request."""
    number = 0
    while True:
        text = f"note {number} of caller {name}"
        try:
            answer = server.call("remember", text=text, session=str(name))
        except httpx2.TransportError:
            return
        if answer.status_code == 503:
            return
        assert answer.json()["result"]["structuredContent"]["status"] == "stored"
        acknowledged.append(text)
        number += 1


async def texts(home: Path) -> list[str]:
    async with await MemoryStore.open(home) as store:
        return [memory.text async for memory in store.memories()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_told_to_leave_keeps_what_it_acknowledged(tmp_path: Path, number: int) -> None:
    acknowledged: list[str] = []
    with served(tmp_path, "--tokens", token_file(tmp_path), "--rate", "1000") as server:
        callers = [
            threading.Thread(target=remember_until_refused, args=(server, caller, acknowledged))
            for caller in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        while len(acknowledged) < 5 * CALLERS:
            time.sleep(0.05)
        began = time.monotonic()
        assert server.stop(number) == 0
        seconds = time.monotonic() - began
        for caller in callers:
            caller.join()
    kept = asyncio.run(texts(tmp_path / "home"))
    print(f"\n{len(acknowledged)} acknowledged, {len(kept)} kept, left in {seconds:.1f} s")
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
    assert seconds < 15
    assert "Traceback" not in server.log.read_text()


def test_an_open_stream_does_not_hold_the_server(tmp_path: Path) -> None:
    sent = {"Accept": ACCEPT, **bearer("ana")}
    start = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "wire", "version": "1"},
        },
    }
    with served(tmp_path, "--tokens", token_file(tmp_path)) as server:
        opened = server.request(headers=sent, json=start)
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        with httpx2.stream("GET", server.url, headers=sent | session) as stream:
            assert stream.status_code == 200
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 8


def test_who_never_ends_a_request_is_cut_off(tmp_path: Path) -> None:
    secret = bearer("ana")["Authorization"]
    lines = ("POST /mcp HTTP/1.1", "Host: localhost", f"Authorization: {secret}")
    head = "\r\n".join(lines).encode()
    with served(tmp_path, "--tokens", token_file(tmp_path)) as server:
        host, port = server.url.removeprefix("http://").removesuffix("/mcp").split(":")
        with (
            socket.create_connection((host, int(port)), 2 * HEAD_PATIENCE) as in_its_head,
            socket.create_connection((host, int(port)), 2 * BODY_PATIENCE) as in_its_body,
        ):
            in_its_head.sendall(head)
            in_its_body.sendall(head + b"\r\nContent-Length: 100\r\n\r\n{")
            with suppress(ConnectionResetError):
                assert in_its_head.recv(100) == b""
            assert in_its_body.recv(100).startswith(b"HTTP/1.1 408")
        assert server.request("GET", "/health").status_code == 200


def test_connections_are_bounded(tmp_path: Path) -> None:
    with served(tmp_path, "--tokens", token_file(tmp_path)) as server:
        host, port = server.url.removeprefix("http://").removesuffix("/mcp").split(":")
        opened = [socket.create_connection((host, int(port))) for _ in range(MOST_CONNECTIONS + 10)]
        refused, _, _ = select.select(opened, [], [], 10)
        for connection in opened:
            connection.close()
        assert refused
        assert server.request("GET", "/health").status_code in {200, 503}
