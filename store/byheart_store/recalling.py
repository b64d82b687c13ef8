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
from byheart_store.models import ActiveModel, column_of
from byheart_store.passages import Span, count_tokens
from byheart_store.ranking import Ranking, best_passages, fused, ordered, rank
from byheart_store.records import (
    ADMIT_ALL,
    DEFAULT_LIMIT,
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
from byheart_store.reranking import readable, reranked
from byheart_store.rows import said
from byheart_store.shown import LONGEST_SHOWN, shown_span
from byheart_store.snapshot import Snapshot, Snapshots
from byheart_store.tuning import DEFAULT_TUNING, Tuning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from byheart_store.encoder import Encoder


MOST_ANSWERS_KEPT = 8
MOST_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked for.

    Raises:
        InvalidInput: an argument can't be accepted; the message says what to send.
    """

    query: str
    limit: int = DEFAULT_LIMIT
    where: Filter = ADMIT_ALL
    mode: Mode = "hybrid"
    max_tokens: int | None = None
    prefer_recent: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", checked_query(self.query))
        checked_limit(self.limit)
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidInput(
                f"max_tokens: {self.max_tokens} must be at least 1; leave it out for no bound"
            )


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to answer with: encoder and column where there is a model, else a notice."""

    encoder: Encoder | None = None
    tuning: Tuning = DEFAULT_TUNING
    notice: str | None = None

    @property
    def column(self) -> str | None:
        """The column of the encoder's own vectors."""
        return column_of(self.encoder).column if self.encoder else None


class Recaller:
    """Answers queries from the tables of one open store."""

    def __init__(self, database: Database, model: ActiveModel) -> None:
        """The recaller of one open store."""
        self._database = database
        self._model = model
        self._snapshots = Snapshots(database)
        self._asked: dict[tuple[object, ...], Evidence] = {}

    async def recall(
        self, question: Question, *, wait_for_model: bool
    ) -> tuple[Recall, LoggedRecall]:
        """Answer a question; the second result is what the log keeps of it.

        A purge or a repair by another process may delete the files of the version that is being
        read; the question is then asked of the version that has come in its place.
        """
        for _ in range(MOST_TRIES - 1):
            version = await self._database.memories.version()
            try:
                return await self._recall(question, wait_for_model)
            except (OSError, RuntimeError):
                if await self._database.memories.version() == version:
                    raise
        return await self._recall(question, wait_for_model)

    async def _recall(
        self, question: Question, wait_for_model: bool
    ) -> tuple[Recall, LoggedRecall]:
        began = time.perf_counter()
        means = await self._means(question.mode, wait=wait_for_model)
        snapshot = await self._snapshots.current(means.column)
        evidence = await self._evidence(question, means, snapshot)
        tuning = means.tuning.preferring_recent() if question.prefer_recent else means.tuning
        scores = await self._scores(question, means, tuning, snapshot, evidence)
        ranking = rank(evidence, scores, snapshot.vectors, question.limit, tuning)
        hits = await self._hits(question, snapshot, evidence, ranking)
        recall = Recall(
            recall_id=uuid7(),
            query=question.query,
            hits=hits,
            answerable=ranking.answerable,
            no_match=ranking.no_match,
            degraded=means.notice is not None,
            notice=means.notice,
            milliseconds=(time.perf_counter() - began) * 1000,
        )
        return recall, _logged(recall, question, means)

    async def evidence(self, question: Question) -> tuple[Evidence, tuple[str, ...]]:
        """What the legs say of each memory, waiting for the model, and the memories' ids.

        Raises:
            ModelUnavailable, ModelMismatch: there is no model to ask with.
        """
        means = Means(await self._model.wait())
        snapshot = await self._snapshots.current(means.column)
        evidence = await self._evidence(question, means, snapshot)
        return evidence, tuple(snapshot.ids[place] for place in evidence.memories)

    async def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of memories in the active column, read as of the latest commit."""
        column = (await self._database.describe()).active_column
        snapshot = await self._snapshots.current(column.column if column else None)
        return snapshot.vectors_of(ids)

    async def _means(self, mode: Mode, *, wait: bool) -> Means:
        if mode == "text":
            return Means()
        description = await self._database.describe()
        column = description.active_column
        tuning = (column.tuning if column else None) or DEFAULT_TUNING
        try:
            encoder = await self._at_hand(description, wait=wait or mode == "vector")
        except ModelUnavailable as unavailable:
            if mode == "vector":
                raise
            return Means(None, tuning, f"searched by words alone: {unavailable}")
        if encoder is None:
            return Means(None, tuning, "searched by words alone: the model is still loading")
        return Means(encoder, tuning)

    async def _at_hand(self, description: schema.Description, *, wait: bool) -> Encoder | None:
        if wait:
            return await self._model.wait_for(description)
        encoder = self._model.at_hand(description)
        if encoder is None and self._model.failure is not None:
            raise self._model.failure
        return encoder

    async def _evidence(self, question: Question, means: Means, snapshot: Snapshot) -> Evidence:
        """What the legs say; asked again with another limit, they need not be asked again."""
        predicate = to_sql(question.where)
        key = (snapshot.version, means.column, question.mode, question.query, predicate)
        known = self._asked.get(key)
        if known is not None:
            return known
        words = None if question.mode == "vector" else question.query
        encoding = _encoded(question.query, means.encoder)
        evidence = await gather_evidence(snapshot, words, encoding, predicate)
        if len(self._asked) >= MOST_ANSWERS_KEPT:
            self._asked.pop(next(iter(self._asked)), None)
        self._asked[key] = evidence
        return evidence

    async def _scores(
        self,
        question: Question,
        means: Means,
        tuning: Tuning,
        snapshot: Snapshot,
        evidence: Evidence,
    ) -> NDArray[np.float32]:
        """(n,) scores of the memories: fused, and the best of them read once more."""
        if question.mode != "hybrid":
            return fused(evidence, tuning.fusion, alone=True)
        scores = fused(evidence, tuning.fusion)
        reranking = tuning.reranking
        reranker = means.encoder.reranker if means.encoder and reranking.weight else None
        if reranker is None:
            return scores
        places = ordered(evidence, scores)[: reranking.depth]
        texts = await self._texts(snapshot, evidence, places, tuning)
        lengths = [reranker.tokens(question.query, text) for text in texts]
        count = readable(lengths, reranking.tokens)
        read = await asyncio.to_thread(reranker.scores, question.query, texts[:count])
        return reranked(scores, places[:count], read, reranking.weight)

    async def _texts(
        self, snapshot: Snapshot, evidence: Evidence, places: NDArray[np.int64], tuning: Tuning
    ) -> list[str]:
        """What the encoder reads of the best passage of each memory."""
        winners = [int(evidence.memories[place]) for place in places]
        memories = await snapshot.memories(winners)
        passages = best_passages(evidence, tuning.fusion, places)
        spans = [
            snapshot.spans(winner)[passage]
            for winner, passage in zip(winners, passages, strict=True)
        ]
        return [
            said(memory.speaker, memory.text[span.start : span.end])
            for memory, span in zip(memories, spans, strict=True)
        ]

    async def _hits(
        self, question: Question, snapshot: Snapshot, evidence: Evidence, ranking: Ranking
    ) -> tuple[Hit, ...]:
        winners = [int(evidence.memories[place]) for place in ranking.places]
        memories = await snapshot.memories(winners)
        hits: list[Hit] = []
        left = question.max_tokens
        explanations = ranking.explanations()
        for number, (place, winner) in enumerate(zip(ranking.places, winners, strict=True)):
            memory = memories[number]
            span: Span | None = Span(0, len(memory.text))
            if left is not None or len(memory.text) > LONGEST_SHOWN:
                passages, best = snapshot.spans(winner), ranking.best_passage(place)
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
                    relevance=ranking.relevance[number],
                    explanation=explanations[number],
                )
            )
        return tuple(hits)


async def _encoded(query: str, encoder: Encoder | None) -> NDArray[np.float32] | None:
    return None if encoder is None else await asyncio.to_thread(encoder.encode_query, query)


def _fitting(text: str, spans: Sequence[Span], tokens: int | None) -> Span | None:
    """The first span whose text has at most so many tokens, if there is a bound."""
    if tokens is None:
        return spans[0]
    return next(
        (span for span in spans if count_tokens(text[span.start : span.end]) <= tokens), None
    )


def _logged(recall: Recall, question: Question, means: Means) -> LoggedRecall:
    return LoggedRecall(
        recall_id=recall.recall_id,
        query=recall.query,
        filter=question.where.as_dict(),
        ids=tuple(hit.id for hit in recall.hits),
        namespaces=tuple(hit.memory.namespace for hit in recall.hits),
        relevances=tuple(hit.relevance for hit in recall.hits),
        scores=tuple(hit.explanation.score for hit in recall.hits),
        model=means.encoder.name if means.encoder else None,
        mode=question.mode,
        no_match=recall.no_match,
        degraded=recall.degraded,
        milliseconds=recall.milliseconds,
        at=now(),
    )
