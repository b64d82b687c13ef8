"""A server process that speaks HTTP, and agents with tokens before its gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation

from ..protocol.conftest import Agent

ACCEPT = "application/json, text/event-stream"
GENERATIONS = ["legacy", "auto"]

SECRETS = {
    name: f"the secret of {name}".replace(" ", "-") for name in ("ana", "ben", "guest", "ops")
}
TOKENS: list[dict[str, Any]] = [
    {"name": "ana", "access": "write", "namespaces": ["ana", "shared by ana"]},
    {"name": "ben", "access": "write", "namespaces": ["ben"]},
    {"name": "guest", "access": "read", "namespaces": ["ana"]},
    {"name": "ops", "access": "admin", "namespaces": "all"},
]


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs; `log` is where its standard error goes."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @asynccontextmanager
    async def agent(self, token: str | None, mode: str = "auto") -> AsyncIterator[Agent]:
        """An agent that brings the token of this name."""
        async with httpx2.AsyncClient(headers=bearer(token), timeout=30) as http:
            transport = streamable_http_client(self.url, http_client=http)
            info = Implementation(name="tester", version="7")
            async with Client(transport, mode=mode, client_info=info) as client:
                yield Agent(client)

    def request(self, method: str = "POST", path: str = "/mcp", **more: Any) -> httpx2.Response:
        """One bare request."""
        return httpx2.request(method, self.url.removesuffix("/mcp") + path, timeout=30, **more)

    def call(self, tool: str, token: str | None = "ana", **arguments: Any) -> httpx2.Response:
        """One tool call in a request of its own, as the protocol of 2026-07-28 sends it."""
        return self.request(headers=headers(tool, token), json=envelope(tool, arguments))

    def stop(self, number: int = signal.SIGTERM, patience: float = 30) -> int:
        """End the server and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(patience)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {SECRETS.get(token, token)}"}


def headers(tool: str, token: str | None) -> dict[str, str]:
    return {
        "Accept": ACCEPT,
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        **bearer(token),
    }


def envelope(tool: str, arguments: dict[str, Any], number: int = 1) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "tester", "version": "7"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def token_file(folder: Path, tokens: list[dict[str, Any]] | None = None) -> Path:
    """A file of tokens that only its owner may read."""
    entries = tokens or [{**token, "token": SECRETS[token["name"]]} for token in TOKENS]
    file = folder / "tokens.json"
    file.write_text(json.dumps({"tokens": entries}))
    file.chmod(0o600)
    return file


@contextmanager
def served(folder: Path, *options: str | Path, **environment: str) -> Iterator[Served]:
    """A server over a store in the folder, on a free port, until the block ends."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "byheart_server", "serve", "--http", ":0", *map(str, options)]
    env = {**os.environ, "BYHEART_HOME": str(folder / "home"), **environment}
    with log.open("ab") as stderr, subprocess.Popen(command, stderr=stderr, env=env) as process:
        try:
            yield Served(process, _url(process, log), log)
        finally:
            process.kill()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("byheart: serving "):
                return line.removeprefix("byheart: serving ")
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()}")
