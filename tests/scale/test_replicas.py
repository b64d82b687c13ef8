"""Several servers over one bucket, killed without warning: what any of them said holds for all."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from byheart_store import MemoryStore

from ..http.serving import GENERATIONS, Served, served, token_file

REPLICAS = 3
CALLERS = 6
KILLS = 12
SECONDS_BETWEEN_KILLS = (8.0, 16.0)

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@contextmanager
def replica(folder: Path, uri: str, *more: str) -> Iterator[Served]:
    """A server that brings nothing with it but the settings: its home is empty."""
    folder.mkdir()
    options = ("--uri", uri, "--rate", "10000", "--tokens", token_file(folder))
    with served(folder, *options, *more) as server:
        yield server


def result(answer: httpx2.Response) -> dict[str, Any]:
    """What a tool returned.

    Raises:
        ConnectionError: the server can't tell, and another one may.
    """
    if answer.status_code != 200:
        raise ConnectionError(f"{answer.status_code} {answer.text[:200]}")
    told = _message(answer)["result"]
    if told.get("isError"):
        raise ConnectionError(told["content"][0]["text"])
    structured: dict[str, Any] = told["structuredContent"]
    return structured


def _message(answer: httpx2.Response) -> dict[str, Any]:
    """The answer, or the last event of a stream, which the death of a server cuts off."""
    events = re.findall(r"^data: (.+)$", answer.text, re.MULTILINE) or [answer.text]
    try:
        message: dict[str, Any] = json.loads(events[-1])
    except ValueError:
        raise ConnectionError(f"cut off: {answer.text[-200:]!r}") from None
    return message


@on_posix
@pytest.mark.slow
async def test_a_request_may_reach_any_server(tmp_path: Path, uri: str) -> None:
    with replica(tmp_path / "a", uri) as one, replica(tmp_path / "b", uri) as other:
        told = result(one.call("remember", text="Ana likes tea", session="s"))
        again = result(other.call("remember", text="Ana likes tea", session="s"))
        assert (again["id"], again["status"]) == (told["id"], "duplicate")
        found = result(other.call("recall", query="tea"))
        judged = result(one.call("feedback", recall_id=found["recall_id"], useful=[told["id"]]))
        assert judged["useful"] == 1
        for server in (one, other):
            for generation in GENERATIONS:
                async with server.agent("ops", generation) as agent:
                    (hit,) = await agent.recall("tea", limit=1)
                    assert hit["id"] == told["id"]


@on_posix
@pytest.mark.slow
async def test_a_client_of_the_former_protocol_outlives_its_server(
    tmp_path: Path, uri: str
) -> None:
    with replica(tmp_path / "a", uri) as one:
        async with one.agent("ops", "legacy") as agent:
            await agent.remember("Ana likes tea")
            assert one.stop() == 0
            port = one.url.removesuffix("/mcp").rpartition(":")[2]
            with replica(tmp_path / "b", uri, "--http", f":{port}"):
                (hit,) = await agent.recall("tea")
    # Its name was told to another server, if to any; the token comes with each request.
    assert (hit.get("client"), hit.get("token")) == (None, "ops")


@dataclass
class Said:
    """What the servers have acknowledged to all callers."""

    stored: dict[str, str] = field(default_factory=dict)
    forgetting: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    judged: set[tuple[str, str]] = field(default_factory=set)
    contradictions: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Servers:
    """The servers that are alive, each of them replaced when it was killed."""

    def __init__(self, folder: Path, uri: str, stack: ExitStack) -> None:
        self._folder, self._uri, self._stack = folder, uri, stack
        self._born = 0
        self.alive = [self._start() for _ in range(REPLICAS)]

    def _start(self) -> Served:
        self._born += 1
        return self._stack.enter_context(replica(self._folder / f"life {self._born}", self._uri))

    def kill_one(self, which: int) -> None:
        self.alive[which].process.kill()
        self.alive[which] = self._start()


class Caller:
    """Remembers, recalls, judges and forgets, each time on some server, until told to stop."""

    def __init__(self, number: int, servers: Servers, said: Said, end: threading.Event) -> None:
        self._number, self._servers, self._said, self._end = number, servers, said, end
        self._draw = random.Random(number)
        self._own: list[tuple[str, str]] = []

    def work(self) -> None:
        number = 0
        while not self._end.is_set():
            self._remember(number)
            number += 1
            if self._draw.random() < 0.2:
                self._judge()
            if self._draw.random() < 0.15:
                self._forget()

    def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Ask one server after the other until one answers."""
        began = time.monotonic()
        for _ in range(30):
            server = self._draw.choice(self._servers.alive)
            try:
                answer = result(server.call(tool, "ops", **arguments))
            except (httpx2.TransportError, ConnectionError) as error:
                with self._said.lock:
                    self._said.counts[f"{tool} again"] += 1
                    self._said.troubles[f"{type(error).__name__}: {error}"[:100]] += 1
                if "no logged recall" in str(error) or "no memory has the id" in str(error):
                    raise
                time.sleep(0.2)
            else:
                with self._said.lock:
                    self._said.counts[tool] += 1
                    taken = time.monotonic() - began
                    self._said.slowest = max(self._said.slowest, taken)
                return answer
        raise AssertionError(f"no server has answered {tool}")

    def _remember(self, number: int) -> None:
        text = f"caller {self._number} noted the number {number}"
        memory_id = self._call("remember", text=text, session=f"s{self._number}")["id"]
        with self._said.lock:
            self._said.stored[text] = memory_id
        self._own.append((text, memory_id))
        known, first = self._draw.choice(self._own)
        if self._draw.random() < 0.2 and first not in self._said.forgetting:
            again = self._call("remember", text=known, session=f"s{self._number}")["id"]
            if again != first:
                with self._said.lock:
                    self._said.contradictions.append(f"{known}: {first}, {again}")

    def _judge(self) -> None:
        text, memory_id = self._own[-1]
        found = self._call("recall", query=text)
        if memory_id not in [hit["id"] for hit in found["hits"]]:
            with self._said.lock:
                self._said.contradictions.append(f"not recalled: {text}")
            return
        try:
            self._call("feedback", recall_id=found["recall_id"], useful=[memory_id])
        except ConnectionError:  # the server was killed between its answer and its log
            return
        with self._said.lock:
            self._said.judged.add((text, memory_id))

    def _forget(self) -> None:
        _, memory_id = self._own.pop(self._draw.randrange(len(self._own)))
        with self._said.lock:
            self._said.forgetting.add(memory_id)
        try:
            self._call("forget", ids=[memory_id])
        except ConnectionError:
            # A server that was killed had forgotten it: no other one can any more.
            assert self._said.counts["forget again"] > 0
        with self._said.lock:
            self._said.forgotten.add(memory_id)


@on_posix
@pytest.mark.reliability
@pytest.mark.timeout(900)
def test_killed_servers_lose_nothing_and_bring_nothing_back(tmp_path: Path, uri: str) -> None:
    said, end, draw = Said(), threading.Event(), random.Random(3)
    began = time.monotonic()
    with ExitStack() as stack, ThreadPoolExecutor(CALLERS) as pool:
        servers = Servers(tmp_path, uri, stack)
        callers = [Caller(number, servers, said, end) for number in range(CALLERS)]
        work = [pool.submit(caller.work) for caller in callers]
        for kill in range(KILLS):
            time.sleep(draw.uniform(*SECONDS_BETWEEN_KILLS))
            servers.kill_one(draw.randrange(REPLICAS))
            print(f"{kill + 1} kills, {dict(said.counts)}", flush=True)
        end.set()
        for caller in work:
            caller.result()
    seconds = time.monotonic() - began
    ids, texts, labels = asyncio.run(_kept(tmp_path / "home", uri))

    kept = {text: name for text, name in said.stored.items() if name not in said.forgetting}
    lost = {text for text, name in kept.items() if name not in ids}
    twice = {text for text, count in texts.items() if count > 1}
    back = said.forgotten & ids
    unjudged = {pair for pair in said.judged if pair[1] not in said.forgetting} - labels
    print(
        f"\n{REPLICAS} servers, {KILLS} kills in {seconds:.0f} s: acknowledged "
        f"{len(said.stored)}, lost {len(lost)}, twice {len(twice)}, forgotten "
        f"{len(said.forgotten)}, back {len(back)}, judged {len(said.judged)}, not counted "
        f"{len(unjudged)}; slowest answer {said.slowest:.1f} s\n{dict(said.counts)}\n"
        + "\n".join(f"{count:>4} times {what}" for what, count in said.troubles.most_common(12))
    )
    assert (said.contradictions, lost, twice, back, unjudged) == ([], set(), set(), set(), set())
    assert min(said.counts[tool] for tool in ("remember", "feedback", "forget")) > KILLS / 2


async def _kept(home: Path, uri: str) -> tuple[set[str], Counter[str], set[tuple[str, str]]]:
    async with await MemoryStore.open(home, uri=uri) as store:
        memories = [memory async for memory in store.memories()]
        labels = {(label.query, label.memory_id) for label in await store.labels()}
    return {one.id for one in memories}, Counter(one.text for one in memories), labels
