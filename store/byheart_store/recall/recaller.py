"""The way of a query: two legs, one ranking, memories with what of them is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from byheart_store.errors import InvalidInput, ModelUnavailable
from byheart_store.inputs import checked_limit, checked_query
from byheart_store.models.passages import Span, count_tokens, passage_text
from byheart_store.moments import now, uuid7
from byheart_store.ranking.evidence import Evidence
from byheart_store.ranking.order import (
    Pool,
    Ranking,
    best_passages,
    fused,
    ordered,
    pooled,
    rank,
    with_nearest,
)
from byheart_store.ranking.reranking import readable, reranked
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning
from byheart_store.recall.excerpt import LONGEST_EXCERPT, excerpt_span
from byheart_store.recall.legs import CANDIDATES, exact_cosines, gather_evidence
from byheart_store.recall.snapshot import Snapshot
from byheart_store.recall.snapshots import Snapshots
from byheart_store.records import ADMIT_ALL, DEFAULT_LIMIT, Filter, Hit, LoggedRecall, Mode, Recall
from byheart_store.tables import schema
from byheart_store.tables.active_model import ActiveModel, column_of
from byheart_store.tables.database import Database
from byheart_store.tables.filters import to_sql

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from byheart_store.models.encoder import Encoder


MOST_ANSWERS_KEPT = 8
READ_AHEAD = 8
"""Candidates read beyond the limit: exact cosines change the order a little."""
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


@dataclass(frozen=True, slots=True)
class Found:
    """What the legs say in a snapshot, the query's (d,) vector, and the vectors read by row."""

    snapshot: Snapshot
    evidence: Evidence
    vector: NDArray[np.float32] | None
    read: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)

    def vectors_of(self, pool: Pool) -> NDArray[np.float32]:
        """(k, d) the vectors of a pool's passages, zeros where none is known."""
        import numpy as np

        if self.snapshot.vectors is not None:
            return self.snapshot.vectors[self.evidence.rows[pool.rows]]
        # Exact cosines may have brought in another candidate at the very end of the pool.
        unknown = np.zeros_like(next(iter(self.read.values()), np.zeros(0, np.float32)))
        vectors = [self.read.get(row, unknown) for row in pool.rows.tolist()]
        return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


class Recaller:
    """Answers queries from the tables of one open store."""

    def __init__(self, database: Database, model: ActiveModel) -> None:
        """The recaller of one open store."""
        self._database = database
        self._model = model
        self._snapshots = Snapshots(database)
        self._asked: dict[tuple[object, ...], tuple[Evidence, NDArray[np.float32] | None]] = {}

    async def recall(
        self, question: Question, *, wait_for_model: bool
    ) -> tuple[Recall, LoggedRecall]:
        """Answer a question; the second result is what the log keeps of it.

        A purge or a repair by another process may delete the files of the version that is being
        read; the question is then asked of the version that has come in its place.
        """
        for _ in range(MOST_TRIES - 1):
            version, description = await self._database.described()
            try:
                return await self._recall(question, version, description, wait_for_model)
            except (OSError, RuntimeError):
                was_of_another = self._snapshots.drop(version)
                if not was_of_another and await self._database.memories.version() == version:
                    raise
        version, description = await self._database.described()
        return await self._recall(question, version, description, wait_for_model)

    async def _recall(
        self,
        question: Question,
        version: int,
        description: schema.Description,
        wait_for_model: bool,
    ) -> tuple[Recall, LoggedRecall]:
        began = time.perf_counter()
        means = await self._means(question.mode, description, wait=wait_for_model)
        if means.column is not None and description.column(means.column) is None:
            version = await self._database.memories.version()  # loading the model has added it
        snapshot = await self._snapshots.at(version, means.column)
        tuning = means.tuning.preferring_recent() if question.prefer_recent else means.tuning
        found = await self._refined(await self._found(question, means, snapshot), question, tuning)
        scores = await self._scores(question, means, tuning, found)
        pool = pooled(found.evidence, scores, question.limit, tuning.fusion)
        vectors = found.vectors_of(pool)
        ranking = rank(found.evidence, scores, pool, vectors, question.limit, tuning)
        hits = await self._hits(question, found, ranking)
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
        """What the legs say of every memory, waiting for the model, and the memories' ids.

        Raises:
            ModelUnavailable, ModelMismatch: there is no model to ask with.
        """
        means = Means(await self._model.wait())
        version = await self._database.memories.version()
        snapshot = await self._snapshots.at(version, means.column, whole=True)
        evidence = (await self._found(question, means, snapshot)).evidence
        return evidence, snapshot.ids(evidence.memories)

    async def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of memories in the active column, read as of the latest commit."""
        version, description = await self._database.described()
        snapshot = await self._snapshots.at(version, description.active, whole=True)
        return snapshot.vectors_of(ids)

    async def _means(self, mode: Mode, description: schema.Description, *, wait: bool) -> Means:
        if mode == "text":
            return Means()
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

    async def _found(self, question: Question, means: Means, snapshot: Snapshot) -> Found:
        """What the legs say; asked again with another limit, they need not be asked again."""
        # Where not all are ranked, a larger limit may call for more of them.
        most = 0 if snapshot.vectors is not None else max(CANDIDATES, question.limit)
        predicate = to_sql(question.where)
        key = (snapshot.version, means.column, most, question.mode, question.query, predicate)
        if key not in self._asked:
            words = None if question.mode == "vector" else question.query
            encoding = asyncio.ensure_future(_encoded(question.query, means.encoder))
            evidence = await gather_evidence(
                snapshot, words, encoding, question.where, question.limit
            )
            if len(self._asked) >= MOST_ANSWERS_KEPT:
                self._asked.pop(next(iter(self._asked)), None)
            self._asked[key] = evidence, await encoding
        evidence, vector = self._asked[key]
        return Found(snapshot, evidence, vector)

    async def _refined(self, found: Found, question: Question, tuning: Tuning) -> Found:
        """The same with exact cosines of the best candidates, of which the first are read as well.

        Which of them are shown is decided by their vectors; most often it is the first.
        """
        snapshot, evidence = found.snapshot, found.evidence
        if snapshot.vectors is not None or not len(evidence):
            return found
        pool = pooled(evidence, _fused(evidence, question, tuning), question.limit, tuning.fusion)
        rows = with_nearest(evidence, pool)
        first = evidence.memories[pool.positions[: question.limit + READ_AHEAD]].tolist()
        (vectors, embedded), _ = await asyncio.gather(
            snapshot.vectors_at(evidence.rows[rows]), snapshot.memories(first)
        )
        if found.vector is not None:
            exact = exact_cosines(vectors, embedded, found.vector)
            evidence = evidence.with_cosines(rows, exact)
        return replace(
            found, evidence=evidence, read=dict(zip(rows.tolist(), vectors, strict=True))
        )

    async def _scores(
        self, question: Question, means: Means, tuning: Tuning, found: Found
    ) -> NDArray[np.float32]:
        """(n,) scores of the memories: fused, and the best of them read once more."""
        scores = _fused(found.evidence, question, tuning)
        reranking = tuning.reranking
        reranker = means.encoder.reranker if means.encoder and reranking.weight else None
        if reranker is None or question.mode != "hybrid":
            return scores
        positions = ordered(found.evidence, scores, reranking.depth)
        texts = await self._texts(found, positions, tuning)
        lengths = [reranker.tokens(question.query, text) for text in texts]
        count = readable(lengths, reranking.tokens)
        read = await asyncio.to_thread(reranker.scores, question.query, texts[:count])
        return reranked(scores, positions[:count], read, reranking.weight)

    async def _texts(self, found: Found, positions: NDArray[np.int64], tuning: Tuning) -> list[str]:
        """What the encoder reads of the best passage of each memory."""
        winners = found.evidence.memories[positions].tolist()
        memories = await found.snapshot.memories(winners)
        passages = best_passages(found.evidence, tuning.fusion, positions)
        spans = [
            found.snapshot.spans(winner)[passage]
            for winner, passage in zip(winners, passages, strict=True)
        ]
        return [
            passage_text(memory.speaker, memory.text[span.start : span.end])
            for memory, span in zip(memories, spans, strict=True)
        ]

    async def _hits(self, question: Question, found: Found, ranking: Ranking) -> tuple[Hit, ...]:
        winners = found.evidence.memories[ranking.positions].tolist()
        memories = await found.snapshot.memories(winners)
        hits: list[Hit] = []
        left = question.max_tokens
        explanations = ranking.explanations()
        for number, (memory, winner) in enumerate(zip(memories, winners, strict=True)):
            span: Span | None = Span(0, len(memory.text))
            if left is not None or len(memory.text) > LONGEST_EXCERPT:
                passages, best = found.snapshot.spans(winner), ranking.passages[number]
                whole = excerpt_span(memory.text, passages, best)
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


def _fused(evidence: Evidence, question: Question, tuning: Tuning) -> NDArray[np.float32]:
    return fused(evidence, tuning.fusion, single_leg=question.mode != "hybrid")


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
