"""The way of a query: two legs, one ranking, memories with what of them is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from byheart_store import schema
from byheart_store.database import Database
from byheart_store.errors import InvalidInput, ModelUnavailable
from byheart_store.evidence import Evidence, gather_evidence
from byheart_store.filters import to_sql
from byheart_store.fusion import Fusion
from byheart_store.models import ActiveModel, column_of
from byheart_store.passages import Span, count_tokens
from byheart_store.ranking import Ranking, rank
from byheart_store.records import (
    Filter,
    Hit,
    LoggedRecall,
    Mode,
    Recall,
    checked_limit,
    checked_query,
    now,
    uuid7,
)
from byheart_store.shown import shown_span
from byheart_store.snapshot import Snapshot, Snapshots

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from byheart_store.encoder import Encoder


MOST_ANSWERS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A checked query with its filter, and the encoder and column to ask with, if any."""

    query: str
    limit: int
    where: Filter
    mode: Mode
    max_tokens: int | None
    encoder: Encoder | None
    column: str | None
    notice: str | None


class Recaller:
    """Answers queries from the tables of one open store."""

    def __init__(self, database: Database, model: ActiveModel) -> None:
        """The recaller of one open store."""
        self._database = database
        self._model = model
        self._snapshots = Snapshots(database)
        self._asked: dict[tuple[object, ...], Evidence] = {}

    async def recall(
        self,
        query: str,
        limit: int,
        where: Filter,
        mode: Mode,
        max_tokens: int | None,
        *,
        wait_for_model: bool,
    ) -> tuple[Recall, LoggedRecall]:
        """Answer a query; the second result is what the log keeps of it."""
        began = time.perf_counter()
        _check(max_tokens)
        encoder, column, notice = await self._encoder(mode, wait=wait_for_model)
        question = Question(
            checked_query(query), checked_limit(limit), where, mode, max_tokens,
            encoder, column, notice,
        )  # fmt: skip
        snapshot = await self._snapshots.current(question.column)
        evidence = await self._evidence(snapshot, question)
        ranking = rank(evidence, limit, Fusion())
        hits = await self._hits(question, snapshot, evidence, ranking)
        milliseconds = (time.perf_counter() - began) * 1000
        recall = Recall(
            recall_id=uuid7(),
            query=question.query,
            hits=hits,
            no_match=ranking.no_match,
            degraded=notice is not None,
            notice=notice,
            milliseconds=milliseconds,
        )
        return recall, _logged(recall, question)

    async def _encoder(
        self, mode: Mode, *, wait: bool
    ) -> tuple[Encoder | None, str | None, str | None]:
        """The encoder and its column, or neither and why."""
        if mode == "text":
            return None, None, None
        description = await self._database.describe()
        try:
            encoder = await self._at_hand(description, wait=wait or mode == "vector")
        except ModelUnavailable as unavailable:
            if mode == "vector":
                raise
            return None, None, f"searched by words alone: {unavailable}"
        if encoder is None:
            return None, None, "searched by words alone: the model is still loading"
        return encoder, column_of(encoder).column, None

    async def _at_hand(self, description: schema.Description, *, wait: bool) -> Encoder | None:
        if wait:
            return await self._model.wait_for(description)
        encoder = self._model.at_hand(description)
        if encoder is None and self._model.failure is not None:
            raise self._model.failure
        return encoder

    async def _evidence(self, snapshot: Snapshot, question: Question) -> Evidence:
        """What the legs say; asked again with another limit, they need not be asked again."""
        predicate = to_sql(question.where)
        key = (snapshot.version, question.column, question.mode, question.query, predicate)
        if key not in self._asked:
            words = None if question.mode == "vector" else question.query
            evidence = await gather_evidence(
                snapshot,
                words,
                _encoded(question),
                predicate,
                context=question.mode == "hybrid",
            )
            if len(self._asked) >= MOST_ANSWERS_KEPT:
                self._asked.pop(next(iter(self._asked)), None)
            self._asked[key] = evidence
            return evidence
        return self._asked[key]

    async def _hits(
        self, question: Question, snapshot: Snapshot, evidence: Evidence, ranking: Ranking
    ) -> tuple[Hit, ...]:
        winners = [int(evidence.memories[place]) for place in ranking.places]
        memories = await snapshot.memories(winners)
        hits: list[Hit] = []
        left = question.max_tokens
        for place, winner, memory in zip(ranking.places, winners, memories, strict=True):
            passages = snapshot.spans(winner)
            best = ranking.best_passage(place)
            whole = shown_span(memory.text, passages, best)
            span = _fitting(memory.text, [whole, passages[best]], left)
            if span is None:
                continue
            text = memory.text[span.start : span.end]
            if left is not None:
                left -= count_tokens(text)
            hits.append(
                Hit(
                    memory=memory,
                    text=text,
                    start=span.start,
                    end=span.end,
                    relevance=float(ranking.relevance[place]),
                    explanation=ranking.explain(place),
                )
            )
        return tuple(hits)


async def _encoded(question: Question) -> NDArray[np.float32] | None:
    if question.encoder is None:
        return None
    return await asyncio.to_thread(question.encoder.encode_query, question.query)


def _check(max_tokens: int | None) -> None:
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInput(
            f"max_tokens: {max_tokens} must be at least 1; leave it out for no bound"
        )


def _fitting(text: str, spans: Sequence[Span], tokens: int | None) -> Span | None:
    """The first span whose text has at most so many tokens, if there is a bound."""
    if tokens is None:
        return spans[0]
    return next(
        (span for span in spans if count_tokens(text[span.start : span.end]) <= tokens), None
    )


def _logged(recall: Recall, question: Question) -> LoggedRecall:
    return LoggedRecall(
        recall_id=recall.recall_id,
        query=recall.query,
        filter=question.where.as_dict(),
        ids=tuple(hit.id for hit in recall.hits),
        namespaces=tuple(hit.memory.namespace for hit in recall.hits),
        relevances=tuple(hit.relevance for hit in recall.hits),
        scores=tuple(hit.explanation.score for hit in recall.hits),
        model=question.encoder.name if question.encoder else None,
        mode=question.mode,
        no_match=recall.no_match,
        degraded=recall.degraded,
        milliseconds=recall.milliseconds,
        at=now(),
    )
