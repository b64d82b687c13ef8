"""A reranker behind the trained encoder: trained on its ranking, weighed on development questions.

How much it reads is bounded by time, how much it counts is chosen where it was not trained, and
whether it is used at all is the gate's decision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from byheart_retrain.evaluation.metrics import ndcg
from byheart_retrain.mining import RankedList, TrainingExample, mine, rank, texts_of_passages
from byheart_retrain.publishing import publish_cross_encoder, sha256
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.training import RerankerSettings, TrainedReranker, train_reranker
from byheart_retrain.training.trainer_settings import passes
from byheart_store import MemoryStore
from byheart_store.models import Reranker, RerankerFile, cores, declare, load_reranker
from byheart_store.ranking import Reranking, readable, reranked

FOLDER = "reranker"
BUDGET = 25.0
"""Milliseconds that it may add to the median recall."""

WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MOST_TOKENS = 1200
FEWEST_TOKENS = 200
"""With less to read there is nothing to be put in order."""

_DEPTH = 10
_TIMED = 40
_STEP = 50

_Read: TypeAlias = tuple[RankedList, list[str]]
"""A ranked list, and what a reranker reads of each memory in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateReranker:
    """A trained reranker: how it is to be used, and how that was chosen.

    `by_weight` are the development scores, `milliseconds` is the median time it takes.
    """

    reranking: Reranking
    by_weight: dict[float, float]
    milliseconds: float
    alike: float
    examples: int
    curve: list[dict[str, float]]


async def add_reranker(
    trial: MemoryStore,
    train: Sequence[LabelledQuery],
    known_items: Sequence[LabelledQuery],
    dev: Sequence[LabelledQuery],
    folder: Path,
    work: Path,
    settings: RerankerSettings,
    progress: Callable[[int, int | None], None],
) -> CandidateReranker:
    """Train a reranker for the model in `folder`, put it beside it, and choose how to use it.

    It learns from the labelled questions and from `known_items`, which ask for a memory by its own
    rare words: without them it forgot that words matter.

    Raises:
        ModelUnavailable: it can't be exported.
    """
    examples = await _examples(trial, [*train, *known_items], settings)
    trained = await asyncio.to_thread(train_reranker, folder, examples, work, settings, progress)
    alike = await asyncio.to_thread(_exported, trained, folder / FOLDER)
    file = declare_reranker(folder, settings.longest)
    reranker = await asyncio.to_thread(load_reranker, file, threads=cores())
    lists = await _lists(trial, dev)
    tokens, milliseconds = _within_budget(reranker, lists)
    by_weight = await asyncio.to_thread(_by_weight, reranker, lists, tokens)
    weight = max(sorted(by_weight), key=lambda one: by_weight[one])
    return CandidateReranker(
        reranking=Reranking(weight=weight if tokens >= FEWEST_TOKENS else 0.0, tokens=tokens),
        by_weight=by_weight,
        milliseconds=milliseconds,
        alike=alike,
        examples=len(examples),
        curve=trained.curve,
    )


def declare_reranker(folder: Path, longest: int) -> RerankerFile:
    """Write the reranker into the folder's byheart.json."""
    onnx = folder / FOLDER / "model.onnx"
    digest = sha256(onnx)
    declare(folder, reranker={"folder": FOLDER, "sha256": digest, "max_tokens": longest})
    return RerankerFile(onnx, digest, longest)


async def _examples(
    trial: MemoryStore, train: Sequence[LabelledQuery], settings: RerankerSettings
) -> list[TrainingExample]:
    """Each pass over the labels with negatives of its own."""
    examples: list[TrainingExample] = []
    wanted, number = 1, 0
    while number < wanted:
        mined = await mine(trial, train, negatives=settings.negatives, seed=settings.seed + number)
        examples += mined.for_training()
        once = len(mined.examples)
        wanted = passes(once, settings.batch, settings.epochs, settings.fewest_steps)
        number += 1
    return examples


def _exported(trained: TrainedReranker, folder: Path) -> float:
    trained.save(folder)
    return publish_cross_encoder(folder)


async def _lists(trial: MemoryStore, queries: Sequence[LabelledQuery]) -> list[_Read]:
    lists = await rank(trial, queries, Reranking().depth)
    texts = await texts_of_passages(trial, (one for ranked in lists for one in ranked.passages))
    return [(ranked, [texts.get(one, "") for one in ranked.passages]) for ranked in lists]


def _within_budget(reranker: Reranker, lists: Sequence[_Read]) -> tuple[int, float]:
    """As many tokens as can be read in time, and the milliseconds that this takes."""
    paces = []
    for ranked, texts in lists[:_TIMED]:
        began = time.perf_counter()
        reranker.scores(ranked.query.text, texts)
        spent = sum(reranker.tokens(ranked.query.text, text) for text in texts)
        paces.append((time.perf_counter() - began) * 1000 / max(spent, 1))
    pace = sorted(paces)[len(paces) // 2]
    tokens = min(MOST_TOKENS, int(BUDGET / pace) // _STEP * _STEP)
    return tokens, tokens * pace


def _by_weight(reranker: Reranker, lists: Sequence[_Read], tokens: int) -> dict[float, float]:
    """Mean NDCG@10 of the development questions by the reranker's weight."""
    import numpy as np

    scores: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    for ranked, texts in lists:
        count = _count(reranker, ranked, texts, tokens)
        again = reranker.scores(ranked.query.text, texts[:count])
        for weight, own in scores.items():
            blended = reranked(ranked.scores, np.arange(count), again, weight)
            best = np.argsort(-blended, kind="stable")[:_DEPTH]
            ids = [ranked.ids[position] for position in best]
            own.append(ndcg(ids, ranked.query.gold, _DEPTH))
    return {weight: sum(own) / len(own) for weight, own in scores.items()}


def _count(reranker: Reranker, ranked: RankedList, texts: Sequence[str], tokens: int) -> int:
    return readable([reranker.tokens(ranked.query.text, text) for text in texts], tokens)
