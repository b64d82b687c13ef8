"""Two tokens with namespaces of their own, each trying everything: nothing of the other shows."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ..http.serving import Served, envelope, headers, served, token_file

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

CALLS = int(os.environ.get("BYHEART_TEST_CALLS", "10000"))
WORKERS = 4
SEED = 20_260_728
TOKENS = {"ana": "quokka", "ben": "wombat"}  # each with the word that only its memories carry
TOPICS = ["the ferry at dawn", "a red umbrella", "the tax office", "cello lessons", "sour dough"]
HOSTILE = [
    "{other}", "{OTHER}", "{other}'", "' OR '1'='1", "{own}' OR namespace = '{other}", "%", "_%",
    "{own}') OR ('1'='1", "{other}%", "[a-z]*", "{own}\x00{other}", "{own}\\' OR 1=1 --", "*", "",
]  # fmt: skip


UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Side:
    """What one token has made, for the other to reach for."""

    def __init__(self, token: str, http: httpx2.AsyncClient, url: str) -> None:
        self.token = token
        self.word = TOKENS[token]
        self.known: set[str] = set()
        self.ids: list[str] = ["nothing-yet"]
        self.recalls: list[str] = ["nothing-yet"]
        self.sessions: list[str] = ["nothing-yet"]
        self.alive: set[str] = set()
        self.started = Counter[str]()
        self.http = http
        self.url = url


class Worker:
    """Calls at random with one token, and looks at every answer for what is the other's."""

    def __init__(self, own: Side, other: Side, number: int, leaks: list[str]) -> None:
        self.own = own
        self.other = other
        self.name = f"{own.token}-{number}"
        self.random = random.Random(f"{SEED} {self.name}")
        self.kept: dict[str, set[str]] = {}  # by session; no other worker has these sessions
        self.leaks = leaks
        self.done = Counter[str]()

    async def run(self, calls: int) -> None:
        kinds: dict[Callable[[], Awaitable[None]], float] = {
            self.recall_own: 10,
            self.recall_the_others_words: 8,
            self.recall_elsewhere: 16,
            self.recall_the_others_session: 10,
            self.remember: 4,
            self.remember_elsewhere: 10,
            self.replace_the_others: 8,
            self.forget_the_others: 10,
            self.forget_the_others_session: 5,
            self.forget_elsewhere: 10,
            self.forget_own: 0.5,
            self.judge_the_others: 2,
            self.judge_own: 1,
            self.read_the_others: 5,
            self.read_own: 2,
            self.status: 0.3,
        }
        for _ in range(calls):
            (kind,) = self.random.choices(list(kinds), list(kinds.values()))
            self.done[kind.__name__] += 1
            await kind()

    async def recall_own(self) -> None:
        answer = await self.call("recall", query=self.about(), explain=self.random.random() < 0.3)
        self.own.recalls.append(answer["recall_id"])
        self.own.known.add(answer["recall_id"])
        self.check(bool(answer["hits"]) or not self.own.alive, "own memories not found", answer)

    async def recall_the_others_words(self) -> None:
        query = f"{self.other.word} {self.random.choice(TOPICS)}"
        await self.call("recall", query=query, limit=20, explain=True)

    async def recall_elsewhere(self) -> None:
        await self.refused("recall", query=self.other.word, namespace=self.elsewhere())

    async def recall_the_others_session(self) -> None:
        session = self.random.choice(self.other.sessions)
        answer = await self.call("recall", query=self.other.word, session=session)
        self.check(answer["hits"] == [], "hits in the other's session", answer)

    async def remember(self) -> None:
        session = f"{self.name} {self.random.randrange(20)}"
        self.own.sessions.append(session)
        self.own.started["remember"] += 1
        text = f"{self.about()}, noted as {self.random.randrange(10**9)}"
        answer = await self.call("remember", text=text, session=session, tags=["all"])
        self.own.ids.append(answer["id"])
        self.own.known.add(answer["id"])
        self.own.alive.add(answer["id"])
        self.kept.setdefault(session, set()).add(answer["id"])

    async def remember_elsewhere(self) -> None:
        await self.refused("remember", text=self.about(), namespace=self.elsewhere())

    async def replace_the_others(self) -> None:
        replaced = self.random.choice(self.other.ids)
        await self.refused("remember", text=self.about(), replaces=replaced)

    async def forget_the_others(self) -> None:
        await self.refused("forget", ids=self.random.sample(self.other.ids, 1))

    async def forget_the_others_session(self) -> None:
        answer = await self.call("forget", session=self.random.choice(self.other.sessions))
        self.check(answer["count"] == 0, "forgot in the other's session", answer)

    async def forget_elsewhere(self) -> None:
        await self.refused("forget", namespace=self.elsewhere(), tags=["all"])

    async def forget_own(self) -> None:
        if not self.kept:
            return
        session, ids = self.random.choice(list(self.kept.items()))
        answer = await self.call("forget", session=session)
        self.check(answer["count"] == len(ids), f"forgot not {len(ids)}", answer)
        self.own.alive -= self.kept.pop(session)

    async def judge_the_others(self) -> None:
        recall_id = self.random.choice(self.other.recalls)
        useful = [self.random.choice(self.other.ids)]
        await self.refused("feedback", recall_id=recall_id, useful=useful)
        mine = self.random.choice(self.own.recalls)
        await self.refused("feedback", recall_id=mine, useful=useful)

    async def judge_own(self) -> None:
        answer = await self.call("recall", query=self.about())
        if answer["hits"]:
            useful = [answer["hits"][0]["id"]]
            await self.call_any("feedback", recall_id=answer["recall_id"], useful=useful)

    async def read_the_others(self) -> None:
        answer = await self.ask(
            "resources/read", uri=f"memory://{self.random.choice(self.other.ids)}"
        )
        self.check("error" in answer, "the other's memory was read", answer)

    async def read_own(self) -> None:
        await self.ask("resources/read", uri=f"memory://{self.random.choice(self.own.ids)}")

    async def status(self) -> None:
        answer = await self.ask("resources/read", uri="byheart://status")
        status = json.loads(answer["result"]["contents"][0]["text"])
        self.check(set(status["namespaces"]) <= {self.own.token}, "namespaces", status)
        self.check(status["memories"] <= self.own.started["remember"], "memories", status)
        self.check(status["recalls"] <= self.own.started["recall"], "recalls", status)
        self.check(status["labels"] <= self.own.started["feedback"], "labels", status)
        self.check(not {"home", "location", "bytes"} & set(status), "places", status)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.call_any(tool, **arguments)
        assert not result.get("isError"), result
        answer: dict[str, Any] = result["structuredContent"]
        for hit in answer.get("hits", ()):
            self.check(hit["namespace"] == self.own.token, "namespace", hit)
            self.check(self.own.word in hit["text"], "text", hit)
            self.check(hit["token"] == self.own.token, "token", hit)
        return answer

    async def refused(self, tool: str, **arguments: Any) -> None:
        result = await self.call_any(tool, **arguments)
        self.check(result.get("isError", False), f"{tool} was not refused", result)

    async def call_any(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self.own.started[tool] += 1
        answer = await self.ask("tools/call", name=tool, arguments=arguments)
        result: dict[str, Any] = answer["result"]
        return result

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        message = envelope("", {})
        message["method"] = method
        message["params"] = {**params, "_meta": message["params"]["_meta"]}
        sent = headers(params.get("name", params.get("uri", "")), self.own.token)
        answer = await self.own.http.post(
            self.own.url, json=message, headers={**sent, "Mcp-Method": method}
        )
        self.scan(answer.text, json.dumps(params))
        told: dict[str, Any] = answer.json()
        return told

    def scan(self, answer: str, sent: str) -> None:
        """An error may repeat what was asked, and nothing else that is the other's."""
        named = set(UUID.findall(answer)) & self.other.known
        for word in named | {self.other.word, f"{self.other.token}-"}:
            self.check(word not in answer or word in sent, f"{word} in an answer", answer)

    def check(self, holds: bool, what: str, answer: object) -> None:
        if not holds:
            self.leaks.append(f"{self.name}: {what}: {str(answer)[:300]}")

    def about(self) -> str:
        return f"{self.own.word} {self.random.choice(TOPICS)}"

    def elsewhere(self) -> str:
        own, other = self.own.token, self.other.token
        hostile = self.random.choice(HOSTILE)
        return hostile.format(own=own, other=other, OTHER=other.upper())


async def test_two_tokens_never_see_each_other(tmp_path: Path) -> None:
    file = token_file(tmp_path)
    with served(tmp_path, "--tokens", file, "--rate", "100000", BYHEART_DURABILITY="os") as server:
        leaks, done, seconds = await _both_at_once(server)
    print(
        f"\n{sum(done.values()):,} calls by {len(TOKENS)} tokens in {seconds:.0f} s: {dict(done)}"
    )
    print(f"leaks: {len(leaks)}")
    assert leaks == []
    assert "Traceback" not in server.log.read_text()


async def _both_at_once(server: Served) -> tuple[list[str], Counter[str], float]:
    leaks: list[str] = []
    limits = httpx2.Limits(max_connections=2 * WORKERS)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as http:
        ana, ben = (Side(token, http, server.url) for token in TOKENS)
        workers = [
            Worker(own, other, number, leaks)
            for own, other in ((ana, ben), (ben, ana))
            for number in range(WORKERS)
        ]
        began = time.monotonic()
        await asyncio.gather(*(worker.run(CALLS // WORKERS) for worker in workers))
        seconds = time.monotonic() - began
        for worker in (workers[0], workers[-1]):
            await _check_kept(worker)
    return leaks, sum((worker.done for worker in workers), Counter[str]()), seconds


async def _check_kept(worker: Worker) -> None:
    """In the end each has its own, whole."""
    answer = await worker.ask("resources/read", uri="byheart://status")
    status = json.loads(answer["result"]["contents"][0]["text"])
    assert status["memories"] == len(worker.own.alive)
    for memory_id in worker.own.alive:
        assert "result" in await worker.ask("resources/read", uri=f"memory://{memory_id}")
