"""A server whose store can't be opened says so, names no place to strangers, and recovers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from .serving import Served, served, token_file


def health_after(server: Served, state: str) -> tuple[int, str]:
    """The health once this state is over."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = server.request("GET", "/health")
        if answer.json()["status"] != state:
            break
        time.sleep(0.05)
    return answer.status_code, answer.json()["status"]


def test_a_store_that_can_not_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("not a folder")
    with served(tmp_path, "--tokens", token_file(tmp_path)) as server:
        assert health_after(server, "starting") == (503, "failed")
        told = {token: server.call("recall", token, query="x").text for token in ("ana", "ops")}
        home.unlink()
        while health_after(server, "starting") != (200, "ok"):
            time.sleep(0.05)
        assert server.call("recall", query="x").json()["result"]["isError"] is False
    assert "does not mean that nothing is known" in told["ana"]
    assert str(home) in json.loads(told["ops"])["result"]["content"][0]["text"]
    assert str(home) not in told["ana"]


def test_a_server_on_stdio_imports_nothing_of_it() -> None:
    program = "import sys, byheart_server.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "byheart_server.http_server" not in done.stdout.split()
    assert "uvicorn.protocols.http.h11_impl" not in done.stdout.split()
