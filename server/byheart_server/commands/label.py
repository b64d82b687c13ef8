"""`byheart label`: judge past recalls, one key a hit.

The recalls that the ranking was least sure about come first: a label tells most where the
relevance of the best hit is near one half. Equally unsure ones come newest first. A judgement
is saved with the next key, so that it can be taken back, and however the session ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click

from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import counted, day, indented, print_json
from byheart_server.opening import store_and_runner
from byheart_server.settings import Settings
from byheart_store import Label, LoggedRecall, Memory, MemoryStore, UnknownMemory

_HUMAN = "human"
_KEYS = "y useful   n not   u undo   s skip   m more   q quit"
_PREVIEW = 600


@dataclass(frozen=True, slots=True)
class _Question:
    recall: LoggedRecall
    memory: Memory
    relevance: float
    position: int


@dataclass(frozen=True, slots=True)
class _Judgement:
    question: _Question
    key: str


@click.command("label")
@settings_options(model=False)
@json_option
def label_command(settings: Settings, as_json: bool) -> None:
    """Judge past recalls, one key a hit.

    Those that the ranking was least sure about come first. What you judge is saved as you go on,
    and recalls that were judged already are left out.
    """
    # With --json, standard output belongs to the one object.
    screen = _Screen(err=as_json)

    with store_and_runner(settings) as (store, runner):
        given = _ask_all(store, runner, screen)
    if as_json:
        print_json({name: given[name] for name in ("useful", "not_useful", "skipped", "left")})
        return
    labels = counted(given["useful"] + given["not_useful"], "label", "labels")
    click.echo(f"{labels} saved, {counted(given['left'], 'hit', 'hits')} left to judge")


class _Screen:
    """Shows questions and reads keys: single ones from a terminal, characters from a pipe."""

    def __init__(self, err: bool) -> None:
        self._err = err

    def show(self, text: str = "") -> None:
        click.echo(text, err=self._err)

    def key(self, progress: str) -> str:
        """One of y, n, u, s, m, q; the end of the input is q."""
        self.show(click.style(f"{progress}   {_KEYS}", dim=True))
        while True:
            key = _read_key().lower()
            if key in {"", "q"}:
                return "q"
            if key in {"y", "n", "u", "s", "m"}:
                return key


def _read_key() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.read(1)
    try:
        return click.getchar()
    except EOFError:
        return ""


def _ask_all(store: MemoryStore, runner: asyncio.Runner, screen: _Screen) -> Counter[str]:
    given: Counter[str] = Counter()
    hits = runner.run(_open_hits(store))
    last: _Judgement | None = None
    position, shown = 0, ""
    try:
        while position < len(hits):
            question = runner.run(_question(store, hits[position], position))
            if question is None:
                position += 1
                continue
            if question.recall.recall_id != shown:
                shown = question.recall.recall_id
                screen.show(_heading(question.recall))
            key = _ask(question, screen, f"{position + 1:,} of {len(hits):,}")
            if key == "q":
                break
            if key == "u":
                position, last = last.question.position if last else position, None
                continue
            if last is not None:
                given[runner.run(_save(store, last))] += 1
            last = _Judgement(question, key)
            position += 1
    finally:
        if last is not None:
            given[runner.run(_save(store, last))] += 1
    given["left"] = len(hits) - position + given["skipped"]
    return given


def _heading(recall: LoggedRecall) -> str:
    return f"\n{click.style(recall.query, bold=True)}  ({day(recall.at)})"


def _ask(question: _Question, screen: _Screen, progress: str) -> str:
    memory = question.memory
    about = (memory.speaker, day(memory.at) if memory.at else None, memory.session)
    screen.show(f"\n  {question.relevance:.2f}  " + "  ".join(part for part in about if part))
    screen.show(indented(_preview(memory.text), 6))
    while (key := screen.key(progress)) == "m":
        screen.show(indented(memory.text, 6))
    return key


def _preview(text: str) -> str:
    if len(text) <= _PREVIEW:
        return text
    return f"{text[:_PREVIEW]} ... ({len(text):,} characters, m shows them)"


async def _save(store: MemoryStore, judgement: _Judgement) -> str:
    recall_id, memory_id = judgement.question.recall.recall_id, judgement.question.memory.id
    if judgement.key == "y":
        await store.feedback(recall_id, [memory_id], source=_HUMAN)
        return "useful"
    if judgement.key == "n":
        await store.feedback(recall_id, [], [memory_id], source=_HUMAN)
        return "not_useful"
    return "skipped"


async def _question(
    store: MemoryStore, hit: tuple[LoggedRecall, str, float], position: int
) -> _Question | None:
    recall, memory_id, relevance = hit
    try:
        return _Question(recall, await store.get(memory_id), relevance, position)
    except UnknownMemory:
        # Forgotten since.
        return None


async def _open_hits(store: MemoryStore) -> list[tuple[LoggedRecall, str, float]]:
    return list(_open(await store.logged_recalls(), await store.labels()))


def _open(
    recalls: Iterable[LoggedRecall], labels: Iterable[Label]
) -> Iterator[tuple[LoggedRecall, str, float]]:
    """The hits to judge: of recalls that nobody judged, and the rest of those a person began."""
    labels = list(labels)
    by_agent = {label.recall_id for label in labels if label.source != _HUMAN}
    judged = {(label.query, label.memory_id) for label in labels}
    for recall in sorted(recalls, key=_doubt):
        if recall.recall_id in by_agent:
            continue
        for memory_id, relevance in zip(recall.ids, recall.relevances, strict=True):
            if (recall.query, memory_id) not in judged:
                judged.add((recall.query, memory_id))
                yield recall, memory_id, relevance


def _doubt(recall: LoggedRecall) -> tuple[float, float]:
    best = max(recall.relevances, default=0.0)
    return abs(best - 0.5), -recall.at.timestamp()
