"""The official MCP conformance suite: its server scenarios that need no fixtures, over HTTP."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import node
from ..http.serving import Served, served

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]

PACKAGE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
SCENARIOS = {
    "2025-11-25": [
        "server-initialize", "server-session-lifecycle", "ping", "tools-list", "tools-call-error",
        "server-sse-multiple-streams", "resources-list", "prompts-list",
        "dns-rebinding-protection",
    ],
    "2026-07-28": [
        "tools-list", "tools-call-error", "server-sse-multiple-streams", "resources-list",
        "sep-2164-resource-not-found", "prompts-list", "dns-rebinding-protection", "caching",
        "http-header-validation",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return node.installed(PACKAGE, tmp_path_factory.mktemp("suite")) / "conformance"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.mark.parametrize(
    ("version", "scenario"), [(version, one) for version, all_ in SCENARIOS.items() for one in all_]
)
def test_a_scenario_passes(
    conformance: Path, server: Served, version: str, scenario: str, tmp_path: Path
) -> None:
    what = ["--scenario", scenario, "--spec-version", version, "--output-dir", str(tmp_path)]
    done = subprocess.run(
        [conformance, "server", "--url", server.url, *what],
        env=node.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
