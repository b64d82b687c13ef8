"""The MCP Inspector, a client that this project did not write, works with every tool."""

import json
import subprocess
import sys

import pytest

from .. import node

PACKAGE = "@modelcontextprotocol/inspector@2.12.0"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def inspector(tmp_path_factory):
    commands = node.installed(PACKAGE, tmp_path_factory.mktemp("inspector"))
    return [str(commands / "mcp-inspector"), "--cli"], node.environment()


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
