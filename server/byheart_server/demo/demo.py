"""Starts a server on a temporary store and talks to it over MCP, as any client would."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from rich.console import Console

from byheart_server.demo.conversation import (
    QUESTIONS,
    SECRET,
    SESSIONS,
    UNANSWERABLE,
    Question,
    Session,
    Turn,
)
from byheart_server.demo.screen import Screen
from byheart_store import ByHeartError

NAMESPACE = "lena"
LIMIT = 5


class DemoError(ByHeartError):
    """A step of the demonstration did not do what it should."""


@dataclass(slots=True)
class _Talk:
    """A connection to the server, and what was learnt on it."""

    client: Client
    screen: Screen
    ids: dict[str, str] = field(default_factory=dict)
    milliseconds: dict[str, list[float]] = field(default_factory=dict)

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool and return its structured answer; raises DemoError when it is an error."""
        started = time.perf_counter()
        result = await self.client.call_tool(tool, arguments)
        taken = (time.perf_counter() - started) * 1000
        if result.is_error or result.structured_content is None:
            said = " ".join(getattr(part, "text", "") for part in result.content)
            raise DemoError(f"{tool} failed: {said or 'no structured answer'}")
        self.milliseconds.setdefault(tool, []).append(taken)
        return dict(result.structured_content)

    def last(self, tool: str) -> float:
        """How long the last call of a tool took, in milliseconds."""
        return self.milliseconds[tool][-1]


async def run_demo(console: Console | None = None) -> None:
    """Show on the console what the server does with a conversation.

    Raises:
        DemoError: a step failed; the message says which.
    """
    screen = Screen(console or Console(highlight=False))
    started = time.perf_counter()
    with TemporaryDirectory(prefix="byheart-demo-", ignore_cleanup_errors=True) as folder:
        async with _connected(Path(folder), screen) as talk:
            await _store(talk)
            await _ask(talk)
            await _admit_ignorance(talk)
            await _give_feedback(talk)
            await _tidy(talk)
            await _forget(talk)
            _summarise(talk, time.perf_counter() - started)
    screen.connections(byheart_command())


@asynccontextmanager
async def _connected(home: Path, screen: Screen) -> AsyncIterator[_Talk]:
    screen.heading("A memory of your own", "byheart serve, as a subprocess, over MCP on stdio")
    started = time.perf_counter()
    try:
        async with Client(_server(home)) as client:
            taken = (time.perf_counter() - started) * 1000
            tools = (await client.list_tools()).tools
            names = ", ".join(tool.name for tool in tools)
            screen.line(f"Server started and shook hands in {taken:,.0f} ms. Tools: {names}.")
            yield _Talk(client, screen, milliseconds={"handshake": [taken]})
    except (MCPError, ExceptionGroup) as error:
        # The client's task groups wrap what was raised under them.
        cause = _innermost(error)
        if isinstance(cause, ByHeartError):
            raise cause from None
        raise DemoError(f"the server did not answer: {cause or type(cause).__name__}") from error


def _innermost(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _server(home: Path) -> StdioServerParameters:
    # What is set for the user's own store must not reach the demonstration's.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("BYHEART_")
    }
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "byheart_server", "serve", "--home", str(home / "home")],
        env=environment,
    )


async def _store(talk: _Talk) -> None:
    turns = [(session, turn) for session in SESSIONS for turn in session.turns]
    talk.screen.heading(
        "Remembering", f"{len(turns)} turns of {len(SESSIONS)} sessions, January to August 2025"
    )
    started = time.perf_counter()
    for session, turn in turns:
        await _remember(talk, session, turn)
    seconds = time.perf_counter() - started
    replaced = sum(bool(turn.replaces) for _, turn in turns)
    talk.screen.line(
        f"Stored {len(turns)} memories in {seconds:.1f} s, model loading included; "
        f"{replaced} of them replace an older one."
    )


async def _remember(talk: _Talk, session: Session, turn: Turn) -> None:
    arguments = {
        "text": turn.text,
        "namespace": NAMESPACE,
        "session": session.name,
        "speaker": turn.speaker,
        "at": session.at,
        "source": "demo",
    }
    if turn.replaces:
        arguments["replaces"] = talk.ids[turn.replaces]
    receipt = await talk.call("remember", arguments)
    expected = "replaced" if turn.replaces else "stored"
    if receipt["status"] != expected:
        raise DemoError(f"remember said {receipt['status']!r} instead of {expected!r}")
    if turn.key:
        talk.ids[turn.key] = receipt["id"]


async def _ask(talk: _Talk) -> None:
    talk.screen.heading("Recalling", "the best hits, each with the probability that it answers")
    first = among = 0
    for question in QUESTIONS:
        answer = await _recall(talk, question)
        _show(talk, question, answer)
        first += _holds(talk, question, answer["hits"][:1])
        among += _holds(talk, question, answer["hits"])
    talk.screen.line(
        f"Of {len(QUESTIONS)} questions, the best hit answers {first}, "
        f"one of the best {LIMIT} answers {among}; \u2713 marks the turns that do."
    )


def _show(talk: _Talk, question: Question, answer: Mapping[str, Any]) -> None:
    right = {talk.ids[key] for key in question.answers}
    talk.screen.answer(question, answer, right, talk.last("recall"))


async def _recall(talk: _Talk, question: Question) -> dict[str, Any]:
    arguments = {"query": question.text, "namespace": NAMESPACE, "limit": LIMIT}
    return await talk.call("recall", arguments | question.arguments)


def _holds(talk: _Talk, question: Question, hits: Iterable[Mapping[str, Any]]) -> bool:
    wanted = {talk.ids[key] for key in question.answers}
    return any(hit["id"] in wanted for hit in hits)


async def _admit_ignorance(talk: _Talk) -> None:
    talk.screen.heading("Knowing what it doesn't know", "a question that nothing stored answers")
    answer = await _recall(talk, UNANSWERABLE)
    _show(talk, UNANSWERABLE, answer)


async def _give_feedback(talk: _Talk) -> None:
    talk.screen.heading(
        "Feedback", "which hits were useful: the labels that a retraining learns from"
    )
    question = QUESTIONS[0]
    answer = await _recall(talk, question)
    wanted = {talk.ids[key] for key in question.answers}
    found = [hit["id"] for hit in answer["hits"]]
    useful = [name for name in found if name in wanted]
    rest = [name for name in found if name not in wanted]
    counts = await talk.call(
        "feedback",
        {"recall_id": answer["recall_id"], "useful": useful, "not_useful": rest},
    )
    talk.screen.line(
        f"\u201c{question.text}\u201d: {counts['useful']} hit labelled useful, "
        f"{counts['not_useful']} not."
    )


async def _tidy(talk: _Talk) -> None:
    talk.screen.heading("Reindex", "embeds what has no vector yet, and compacts the store")
    done = await talk.call("reindex", {})
    talk.screen.line(
        f"{done['rows']} passages to embed with {done['model']}; {done['seconds']:.1f} s."
    )


async def _forget(talk: _Talk) -> None:
    talk.screen.heading("Forgetting", "for good, by id or by filter")
    before = await _recall(talk, SECRET)
    _show(talk, SECRET, before)
    secret = talk.ids[SECRET.answers[0]]
    gone = await talk.call("forget", {"ids": [secret]})
    if gone["count"] != 1:
        raise DemoError(f"forget removed {gone['count']} memories instead of 1")
    after = await _recall(talk, SECRET)
    if _holds(talk, SECRET, after["hits"]):
        raise DemoError("a forgotten memory was recalled")
    talk.screen.line("Forgotten. The same question again:")
    _show(talk, SECRET, after)


def _summarise(talk: _Talk, seconds: float) -> None:
    times = talk.milliseconds
    talk.screen.heading("Times", "measured by the client, round trip included")
    talk.screen.times(
        {
            "handshake": f"{times['handshake'][0]:,.0f} ms",
            "first remember": f"{times['remember'][0]:,.0f} ms, waits for the model",
            "remember": f"{statistics.median(times['remember'][1:]):,.0f} ms (median)",
            "recall": f"{statistics.median(times['recall']):,.0f} ms (median)",
            "all of it": f"{seconds:.1f} s",
        }
    )


def byheart_command() -> list[str]:
    """What starts ByHeart from anywhere: the installed command, or this Python."""
    name = "byheart.exe" if os.name == "nt" else "byheart"
    script = Path(sys.executable).parent / name
    return [str(script)] if script.is_file() else [sys.executable, "-m", "byheart_server"]
