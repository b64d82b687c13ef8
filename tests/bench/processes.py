"""Processes seen from their pipes: a server that is asked, one that is empty, a bare one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from byheart_store.models.passages import EMBEDDED

from .bare import BareTable

SERVE = [sys.executable, "-m", "byheart_server", "serve"]
EMPTY = [sys.executable, str(Path(__file__).with_name("empty_server.py"))]
BARE = [sys.executable, str(Path(__file__).with_name("bare_process.py"))]

PAUSE = 0.02
"""Seconds before a question is put again that was answered by words alone."""
CLIENT = {"name": "bench", "version": "1"}
GREETING = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}


class Process:
    """A process that is spawned, asked and killed; `age` tells the seconds since its spawn."""

    def __init__(self, command: list[str], home: Path | None = None) -> None:
        self._calls = 0
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(home),
        )
        self._seen = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def age(self) -> float:
        return time.perf_counter() - self._began

    def megabytes(self) -> float:
        """Resident memory."""
        return self._seen.memory_info().rss / 1e6

    def cpu_seconds(self) -> float:
        """Processor time of all threads, of programs and system alike."""
        times = self._seen.cpu_times()
        return times.user + times.system

    def line(self) -> str:
        """The next line of its output."""
        assert self._process.stdout
        line = self._process.stdout.readline().decode()
        assert line, "the process has ended"
        return line

    def answered(self) -> None:
        """Wait until a bare process has asked both legs."""
        assert self.line() == "answered\n"

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A request of the protocol and its result."""
        self._calls += 1
        self._send(method, params, id=self._calls)
        answer = json.loads(self.line())
        while answer.get("id") != self._calls:
            answer = json.loads(self.line())
        result: dict[str, Any] = answer["result"]
        return result

    def initialize(self) -> None:
        self.ask("initialize", **GREETING)
        self._send("notifications/initialized", {})

    def recall(self, query: str) -> dict[str, Any]:
        """The structured answer of the tool."""
        result = self.ask("tools/call", name="recall", arguments={"query": query})
        answer: dict[str, Any] = result["structuredContent"]
        return answer

    def full_recall(self, query: str) -> dict[str, Any]:
        """The first answer that words and vectors have given together."""
        while (answer := self.recall(query))["degraded"]:
            time.sleep(PAUSE)
        assert answer["hits"]
        return answer

    def _send(self, method: str, params: dict[str, Any], **more: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params, **more}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


def environment(home: Path | None) -> dict[str, str]:
    """This process's environment with nothing of ByHeart but the home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BYHEART_")}
    return kept if home is None else {**kept, "BYHEART_HOME": str(home)}


def bare_process(home: Path, table: BareTable, query: str) -> Process:
    """A process that asks both legs of a home once and says so; it stays until it is killed."""
    place = [str(home / "db"), table.column, table.metric]
    return Process([*BARE, *place, str(EMBEDDED), query])
