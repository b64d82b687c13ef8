"""Asking a store questions whose answers are known, and what the answers are worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from byheart_retrain.benchmarks import Query
from byheart_retrain.metrics import (
    METRICS,
    Interval,
    auroc,
    expected_calibration_error,
    false_positive_rate,
    intervals,
    measured,
)
from byheart_store import Filter, Hit, InvalidInput, MemoryStore, Mode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEMORIES_FOR_SESSIONS = 100
"""How many memories are recalled to be folded into sessions."""

_TIMED = 200
_ASKED_TOGETHER = 4

LEVELS = ("memory", "session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a store answered to a query: ids in rank order with relevances, and sessions.

    `milliseconds` is the time of the recall that found the memories, if it ran alone.
    """

    query: Query
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
    queries: Sequence[Query],
    *,
    sessions: Mapping[str, str] | None = None,
    mode: Mode = "hybrid",
    limit: int = 10,
    progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Ask every query in its namespace; `sessions` maps the gold memories to their sessions.

    The first recall brings `limit` memories; with `sessions`, a second one brings enough to fold
    into sessions. The first queries are asked one by one, which times them, the others several at
    a time.
    """
    together = asyncio.Semaphore(_ASKED_TOGETHER)

    async def answered(query: Query, *, timed: bool) -> Answer:
        async with together:
            answer = await _answer(store, query, sessions, mode, limit)
        if progress is not None:
            progress(1)
        return answer if timed else replace(answer, milliseconds=None)

    answers = [await answered(query, timed=True) for query in queries[:_TIMED]]
    others = [answered(query, timed=False) for query in queries[_TIMED:]]
    return [*answers, *await asyncio.gather(*others)]


async def _answer(
    store: MemoryStore, query: Query, sessions: Mapping[str, str] | None, mode: Mode, limit: int
) -> Answer:
    where = Filter(namespaces=(query.namespace,) if query.namespace else ())
    recall = await store.recall(query.text, limit=limit, where=where, mode=mode, log=False)
    found: tuple[str, ...] = ()
    if sessions is not None and (query.gold or query.gold_sessions):
        wide = await store.recall(
            query.text, limit=MEMORIES_FOR_SESSIONS, where=where, mode=mode, log=False
        )
        found = folded(wide.hits)
    return Answer(
        query=query,
        memories=tuple(hit.id for hit in recall.hits),
        relevances=tuple(hit.relevance for hit in recall.hits),
        sessions=found,
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


def _gold_sessions(query: Query, sessions: Mapping[str, str]) -> frozenset[str]:
    if query.gold_sessions is not None:
        return query.gold_sessions
    return frozenset(sessions.get(memory, memory) for memory in query.gold)


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one level: (n, metrics) values per query, and their means with intervals."""

    values: NDArray[np.float64]
    means: Mapping[str, Interval]

    def as_dict(self) -> dict[str, dict[str, float | None]]:
        """Mean, low and high by metric."""
        return {name: interval.as_dict() for name, interval in self.means.items()}


def scored(answers: Sequence[Answer], level: str) -> Scores:
    """The metrics at one level over the answers whose query has gold there."""
    judged = [answer for answer in answers if answer.gold(level)]
    rankings = [answer.ranking(level) for answer in judged]
    values = measured(rankings, [answer.gold(level) for answer in judged])
    return Scores(values, dict(zip(METRICS, intervals(values), strict=True)))


def compared(ours: Sequence[Answer], theirs: Mapping[str, Sequence[str]]) -> dict[str, Interval]:
    """Paired differences, ours minus theirs, at memory level; a query they lack counts as empty.

    Raises:
        InvalidInput: they lack all queries.
    """
    judged = [answer for answer in ours if answer.query.gold]
    if not any(answer.query.id in theirs for answer in judged):
        raise InvalidInput("the run to compare with answers none of these queries; give another")
    golds = [answer.query.gold for answer in judged]
    mine = measured([answer.memories for answer in judged], golds)
    other = measured([theirs.get(answer.query.id, ()) for answer in judged], golds)
    return dict(zip(METRICS, intervals(mine - other), strict=True))


def report(answers: Sequence[Answer], levels: Sequence[str] = LEVELS) -> dict[str, Any]:
    """The published figures: means with 95% intervals by level and type, latency, abstention."""
    types = sorted({answer.query.type for answer in answers if answer.query.type})
    result: dict[str, Any] = {level: scored(answers, level).as_dict() for level in levels}
    result["by_type"] = {
        name: _of_type([a for a in answers if a.query.type == name], levels) for name in types
    }
    times = [answer.milliseconds for answer in answers if answer.milliseconds is not None]
    result["latency_ms"] = latency(times)
    result["queries"] = len(answers)
    unanswerable = [answer for answer in answers if not _answerable(answer)]
    if unanswerable:
        result["false_positives"] = _false_positives(unanswerable)
        if len(unanswerable) < len(answers):
            result["relevance"] = _relevance(answers)
    return result


def _of_type(answers: Sequence[Answer], levels: Sequence[str]) -> dict[str, Any]:
    judged = [level for level in levels if any(answer.gold(level) for answer in answers)]
    return {level: scored(answers, level).as_dict() for level in judged} | {"queries": len(answers)}


def _answerable(answer: Answer) -> bool:
    return bool(answer.query.gold or answer.gold_sessions)


def latency(milliseconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile; zeros where nothing was timed."""
    import numpy as np

    middle, slowest = np.percentile(milliseconds, [50, 99]) if milliseconds else (0.0, 0.0)
    return {"p50": float(middle), "p99": float(slowest)}


def _false_positives(unanswerable: Sequence[Answer]) -> dict[str, Any]:
    import numpy as np

    answered = np.array([[float(not answer.no_match)] for answer in unanswerable])
    return {"queries": len(unanswerable), "rate": intervals(answered)[0].as_dict()}


def _relevance(answers: Sequence[Answer]) -> dict[str, Any]:
    """How well the store tells what it can answer, and how honest the relevance of a hit is.

    Beside it, what the best hit's bare cosine and BM25 score tell.
    """
    import numpy as np

    known = np.array([float(_answerable(answer)) for answer in answers])
    figures: dict[str, Any] = _told([answer.answerable for answer in answers], known)
    missed = [answer.no_match for answer in answers if _answerable(answer)]
    figures["missed"] = float(np.mean(missed))
    said = np.array([relevance for answer in answers for relevance in answer.relevances])
    right = [float(name in answer.query.gold) for answer in answers for name in answer.memories]
    if len(said):
        figures["ece"] = expected_calibration_error(said, np.array(right))
    figures["by_cosine"] = _told([answer.best_cosine for answer in answers], known)
    figures["by_bm25"] = _told([answer.best_bm25 for answer in answers], known)
    return figures


def _told(scores: Sequence[float], known: NDArray[np.float64]) -> dict[str, float]:
    import numpy as np

    values = np.array(scores)
    probabilities = np.clip(values / max(1.0, float(values.max())), 0, 1)
    return {
        "auroc": auroc(values[known == 1], values[known == 0]),
        "fpr@95": false_positive_rate(values[known == 1], values[known == 0]),
        "query_ece": expected_calibration_error(probabilities, known),
    }
