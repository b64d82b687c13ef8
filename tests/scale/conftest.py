"""A server that speaks S3 on this machine, and buckets of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from byheart_store.home import Home
from byheart_store.tables.location import Location


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def request_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server notes each request."""
    return tmp_path_factory.mktemp("moto") / "log"


@pytest.fixture(scope="session")
def endpoint(request_log: Path) -> Iterator[str]:
    """The address of a moto server."""
    port, log = free_port(), request_log
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _await_answer(url, process, log)
            yield url
        finally:
            process.kill()


def _await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx2.get(f"{url}/moto-api/")
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"moto did not start: {log.read_text()}")


@pytest.fixture
def keys(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment in which commands and stores find the server."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "LANCEDB_")) and name != "LANCEDB_LOG":
            monkeypatch.delenv(name)
    values = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": endpoint,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def uri(endpoint: str, keys: dict[str, str]) -> str:
    """A path in a bucket of its own."""
    bucket = f"bucket-{uuid4().hex}"
    httpx2.put(f"{endpoint}/{bucket}").raise_for_status()
    return f"s3://{bucket}/team/memory"


@pytest.fixture
def location(uri: str, tmp_path: Path) -> Location:
    return Location.of(Home(tmp_path), uri)
