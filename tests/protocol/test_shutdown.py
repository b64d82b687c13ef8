"""A server leaves when it should, with 0, and loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and orphans are POSIX's"),
]

ORPHANING = """
import subprocess, sys, os
server = subprocess.Popen([sys.executable, "-m", "byheart_server", "serve"], stdin=int(sys.argv[1]))
print(server.pid, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["at once", "loaded"])
def idle(request, spawn):
    """A server that is idle: just greeted, or with its store and model loaded."""
    wire = spawn()
    wire.initialize()
    if request.param == "loaded":
        wire.call("remember", text="Ana plays the cello.")
    return wire


def test_end_of_input_ends_the_server(idle):
    started = time.monotonic()
    assert idle.end() == 0
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server(idle, number):
    started = time.monotonic()
    idle.process.send_signal(number)
    assert idle.process.wait(20) == 0
    assert time.monotonic() - started < 2
    assert "Traceback" not in idle.log()


def test_server_ends_with_its_parent_though_its_input_stays_open(environment):
    reading, writing = os.pipe()
    command = [sys.executable, "-c", ORPHANING, str(reading)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, pass_fds=[reading], env=environment
    ) as parent:
        assert parent.stdout
        server = int(parent.stdout.readline())
        os.write(writing, b"\n")
        time.sleep(2)
        assert _is_running(server)
        parent.kill()
    deadline = time.monotonic() + 5
    while _is_running(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.close(reading)
    os.close(writing)
    assert not _is_running(server)


@pytest.mark.parametrize("farewell", ["end of input", "SIGTERM"])
def test_write_under_way_is_finished(spawn, farewell):
    wire = spawn()
    wire.initialize()
    wire.call("remember", text="Ana plays the cello.")
    wire.send("tools/call", {"name": "remember", "arguments": {"text": "Ana sings."}}, id="last")
    if farewell == "SIGTERM":
        time.sleep(0.2)  # the line is read, the write has begun
        wire.process.terminate()
    assert wire.end() == 0
    later = spawn()
    later.initialize()
    hits = later.call("recall", query="sings")["result"]["structuredContent"]["hits"]
    assert "Ana sings." in [hit["text"] for hit in hits]


def test_write_before_the_model_has_loaded_is_finished(spawn):
    wire = spawn()
    wire.initialize()
    wire.send("tools/call", {"name": "remember", "arguments": {"text": "Ana sings."}}, id="last")
    time.sleep(0.1)
    assert wire.end() == 0
    later = spawn()
    later.initialize()
    hits = later.call("recall", query="sings")["result"]["structuredContent"]["hits"]
    assert [hit["text"] for hit in hits] == ["Ana sings."]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
