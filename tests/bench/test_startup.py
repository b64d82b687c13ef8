"""From spawn to the answer to `initialize`, beside an MCPServer that can do nothing."""

import json
import os
import statistics
import subprocess
import sys
import time

import pytest

SPAWNS = 10
LIMIT = 1.6
SERVE = [sys.executable, "-m", "byheart_server", "serve"]
EMPTY = [sys.executable, "-c", "from mcp.server import MCPServer; MCPServer('empty').run()"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


@pytest.mark.bench
@pytest.mark.timeout(300)
def test_initialize_is_answered_nearly_as_fast_as_by_an_empty_server(tmp_path):
    environment = {**os.environ, "BYHEART_HOME": str(tmp_path / "home")}
    _seconds_to_initialize(SERVE, environment)  # writes the byte code
    _seconds_to_initialize(EMPTY, environment)
    ours, empty = [], []
    for _ in range(SPAWNS):
        ours.append(_seconds_to_initialize(SERVE, environment))
        empty.append(_seconds_to_initialize(EMPTY, environment))
    ratio = statistics.median(ours) / statistics.median(empty)
    print(
        f"\nspawn to initialize, median of {SPAWNS}: byheart {statistics.median(ours):.3f} s, "
        f"empty MCPServer {statistics.median(empty):.3f} s, ratio {ratio:.2f}"
    )
    assert ratio <= LIMIT


def _seconds_to_initialize(command, environment):
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        seconds = time.perf_counter() - started
        process.kill()
    assert "result" in answer
    return seconds
