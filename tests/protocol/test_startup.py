"""A server answers at once, and says what it can't do yet."""

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest

from byheart_store import MemoryStore
from byheart_store.models import loading

from .conftest import environment_of, spawning

HEAVY = {"lancedb", "pyarrow", "numpy", "fastembed", "onnxruntime", "tokenizers", "rich", "torch"}


def test_server_is_built_without_heavy_imports():
    program = (
        "import json, sys\nfrom pathlib import Path\n"
        "from byheart_server.app import build_server\n"
        "from byheart_server.settings import Settings\n"
        "print(json.dumps(list(sys.modules)))\n"
        "build_server(Settings(home=Path('x')))\nprint(json.dumps(list(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    imported, built = map(json.loads, output.stdout.splitlines())
    assert HEAVY.isdisjoint(imported)
    assert HEAVY.isdisjoint(built)


async def test_handshake_needs_no_store(talk, monkeypatch):
    async def never(*args, **more):
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryStore, "open", never)
    async with talk(mode="legacy") as agent:
        assert len((await agent.client.list_tools()).tools) == 5


async def test_recall_answers_from_text_while_the_model_loads(talk, monkeypatch):
    loaded = threading.Event()
    async with talk() as agent:
        await agent.remember("Ana plays the cello.")
    _hold_model_back(monkeypatch, loaded)
    async with talk() as agent:
        early = await agent.call("recall", query="cello")
        loaded.set()
        await agent.remember("Ben plays the drums.")  # waits for the model
        later = await agent.call("recall", query="cello")
    assert (early["degraded"], len(early["hits"])) == (True, 1)
    assert early["notice"]
    assert (later["degraded"], "notice" in later) == (False, False)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server from its first word to its last, and what was heard of it."""
    environment = environment_of(tmp_path_factory.mktemp("served") / "home")
    with spawning(environment | {"PYTHONWARNINGS": "ignore"}) as start:
        wire = start()
        heard = {"initialize": wire.initialize(), "first": wire.call("recall", query="anything")}
        wire.call("remember", text="Ana plays the cello.")
        wire.call("recall", query="cello")
        wire.call("recall", query="", limit=0)
        yield heard | {"code": wire.end(), "rest": wire.rest(), "log": wire.log()}


def test_first_call_may_follow_the_handshake_at_once(served):
    assert served["first"]["result"]["structuredContent"]["no_match"] is True


def test_store_opens_even_for_a_silent_client(spawn, home):
    wire = spawn()
    wire.initialize(and_confirm=False)
    deadline = time.monotonic() + 20
    while not (home.exists() and any(home.iterdir())):
        assert time.monotonic() < deadline, "the store was not opened"
        time.sleep(0.05)


def test_nothing_but_protocol_on_stdout(served):
    assert served["initialize"]["result"]["serverInfo"]["name"] == "byheart"
    assert served["code"] == 0
    assert served["rest"] == b""


def test_log_is_quiet(served):
    assert served["log"] == ""


def test_text_is_utf8_whatever_the_locale(wire):
    line = '{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"remember",'
    wire.send_line(line + '"arguments":{"text":"茶 im Tässchen 🫖"}}}')
    memory_id = wire.receive()["result"]["structuredContent"]["id"]
    memory = wire.ask("resources/read", {"uri": f"memory://{memory_id}"})
    assert "茶 im Tässchen 🫖" in memory["result"]["contents"][0]["text"]


async def test_real_client_speaks_either_protocol(talk_to_process):
    async with talk_to_process(mode="legacy") as agent:
        memory_id = await agent.remember("Ana plays the cello.")
    async with talk_to_process() as agent:
        assert [hit["id"] for hit in await agent.recall("cello")] == [memory_id]


@pytest.mark.slow
def test_file_of_the_server_runs_by_its_path(spawn):
    import byheart_server.app

    run = f"from mcp.cli.cli import app; app(['run', {byheart_server.app.__file__!r}])"
    wire = spawn([sys.executable, "-c", run])
    wire.initialize()
    assert wire.call("remember", text="Ana plays the cello.")["result"]["isError"] is False
    assert wire.end() == 0


def _hold_model_back(monkeypatch, loaded):
    load = loading.load_encoder

    def late(*args, **more):
        loaded.wait()
        return load(*args, **more)

    monkeypatch.setattr(loading, "load_encoder", late)
