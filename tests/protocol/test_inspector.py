"""The MCP Inspector, a client that this project did not write, works with every tool."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "@modelcontextprotocol/inspector@2.12.0"
NODE = (22, 19)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def node():
    """The folder of a Node that the Inspector runs on; the dev extra brings one."""
    places = [Path(sys.executable).parent / "node", shutil.which("node")]
    for place in filter(None, places):
        if _node_version(place) >= NODE:
            return Path(place).parent
    return pytest.skip("needs Node >= 22.19; pip install 'byheart[dev]' brings one")


@pytest.fixture(scope="session")
def inspector(node, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspector")
    env = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ['PATH']}"}
    npm = shutil.which("npm", path=env["PATH"])
    if npm is None:
        pytest.skip("needs npm beside Node")
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
    done = subprocess.run(install, env=env, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm could not install the Inspector: {done.stderr.strip()[-200:]}")
    return [str(folder / "node_modules" / ".bin" / "mcp-inspector"), "--cli"], env


@pytest.fixture
def inspect(inspector, home):
    """Asks one thing of a fresh server, as `mcp-inspector --cli` does."""
    command, env = inspector

    def ask(method, tool=None, **arguments):
        named = ["--tool-name", tool] if tool else []
        given = [f"--tool-arg={name}={_as_argument(value)}" for name, value in arguments.items()]
        serve = [sys.executable, "-m", "byheart_server", "serve"]
        done = subprocess.run(
            [*command, *serve, "--method", method, *named, *given],
            env={**env, "BYHEART_HOME": str(home)},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr if done.returncode else json.loads(done.stdout)

    return ask


def test_inspector_lists_the_tools(inspect):
    tools = inspect("tools/list")["tools"]
    assert {tool["name"] for tool in tools} == {
        "remember", "recall", "feedback", "forget", "reindex",
    }  # fmt: skip


def test_inspector_calls_each_tool(inspect):
    def call(tool, **arguments):
        return inspect("tools/call", tool, **arguments)["structuredContent"]

    stored = call("remember", text="Ana plays the cello.", tags=["music"])
    found = call("recall", query="cello", limit=3)
    assert found["hits"][0]["id"] == stored["id"]
    counts = call("feedback", recall_id=found["recall_id"], useful=[stored["id"]])
    assert counts == {"useful": 1, "not_useful": 0}
    assert call("reindex")["rows"] >= 0
    assert call("forget", ids=[stored["id"]])["count"] == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "hint"),
    [
        ("remember", {"text": " "}, "text: is empty"),
        ("recall", {"query": "x", "limit": 0}, "from 1 to 1000"),
        ("feedback", {"recall_id": "nobody", "useful": ["a"]}, "nobody"),
        ("forget", {"session": "s", "before": "soon"}, "write 2026-03-14"),
        ("reindex", {"model": "/no/such/model"}, "/no/such/model"),
    ],
)
def test_inspector_gets_errors_that_help(inspect, tool, arguments, hint):
    assert hint in str(inspect("tools/call", tool, **arguments))


def _as_argument(value):
    return value if isinstance(value, str) else json.dumps(value)


def _node_version(place):
    try:
        done = subprocess.run([place, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return (0, 0)
    major, minor, *_ = done.stdout.strip().lstrip("v").split(".")
    return (int(major), int(minor))
