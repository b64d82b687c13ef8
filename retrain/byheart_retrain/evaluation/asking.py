"""Asking a store queries whose answers are known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from byheart_retrain.progress import Advance
from byheart_retrain.queries import LabelledQuery
from byheart_store import Filter, Hit, MemoryStore, Mode

MEMORIES_FOR_SESSIONS = 100
"""How many memories are recalled to be folded into sessions."""

_TIMED = 200
_ASKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a store answered to a query: ids in rank order with relevances, and sessions.

    `milliseconds` is the time of the recall that found the memories, if it ran alone.
    """

    query: LabelledQuery
    memories: tuple[str, ...]
    relevances: tuple[float, ...]
    sessions: tuple[str, ...]
    gold_sessions: frozenset[str]
    answerable: float
    no_match: bool
    best_cosine: float
    best_bm25: float
    milliseconds: float | None

    def ranking(self, level: str) -> tuple[str, ...]:
        """The ids at this level, best first."""
        return self.memories if level == "memory" else self.sessions

    def gold(self, level: str) -> frozenset[str]:
        """The ids that answer the query at this level."""
        return self.query.gold if level == "memory" else self.gold_sessions


async def ask(
    store: MemoryStore,
    queries: Sequence[LabelledQuery],
    *,
    sessions: Mapping[str, str] | None = None,
    mode: Mode = "hybrid",
    limit: int = 10,
    progress: Advance | None = None,
) -> list[Answer]:
    """Ask every query in its namespace; `sessions` maps the gold memories to their sessions.

    The first recall brings `limit` memories; with `sessions`, a second one brings enough to fold
    into sessions. The first queries are asked one by one, which times them, the others several at
    a time.
    """
    slots = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def answered(query: LabelledQuery, *, timed: bool) -> Answer:
        async with slots:
            answer = await _answer(store, query, sessions, mode, limit)
        if progress is not None:
            progress(1)
        return answer if timed else replace(answer, milliseconds=None)

    answers = [await answered(query, timed=True) for query in queries[:_TIMED]]
    others = [answered(query, timed=False) for query in queries[_TIMED:]]
    return [*answers, *await asyncio.gather(*others)]


async def _answer(
    store: MemoryStore,
    query: LabelledQuery,
    sessions: Mapping[str, str] | None,
    mode: Mode,
    limit: int,
) -> Answer:
    where = Filter(namespaces=(query.namespace,) if query.namespace else ())
    recall = await store.recall(query.text, limit=limit, where=where, mode=mode, log=False)
    recalled_sessions: tuple[str, ...] = ()
    if sessions is not None and (query.gold or query.gold_sessions):
        wide = await store.recall(
            query.text, limit=MEMORIES_FOR_SESSIONS, where=where, mode=mode, log=False
        )
        recalled_sessions = folded(wide.hits)
    return Answer(
        query=query,
        memories=tuple(hit.id for hit in recall.hits),
        relevances=tuple(hit.relevance for hit in recall.hits),
        sessions=recalled_sessions,
        gold_sessions=_gold_sessions(query, sessions or {}),
        answerable=recall.answerable,
        best_cosine=max((hit.explanation.cosine or 0.0 for hit in recall.hits), default=0.0),
        best_bm25=max((hit.explanation.text_score or 0.0 for hit in recall.hits), default=0.0),
        no_match=recall.no_match,
        milliseconds=recall.milliseconds,
    )


def folded(hits: Iterable[Hit]) -> tuple[str, ...]:
    """The hits' sessions, each at the rank of its first hit; a memory without one is its own."""
    return tuple(dict.fromkeys(hit.memory.session or hit.id for hit in hits))


def _gold_sessions(query: LabelledQuery, sessions: Mapping[str, str]) -> frozenset[str]:
    if query.gold_sessions is not None:
        return query.gold_sessions
    return frozenset(sessions.get(memory, memory) for memory in query.gold)
