"""A reranker behind the trained encoder: trained on its ranking, weighed on development questions.

How much it reads is bounded by time, how much it counts is chosen where it was not trained, and
whether it is used at all is the gate's decision.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from byheart_retrain.benchmarks import Query
from byheart_retrain.metrics import ndcg
from byheart_retrain.mining import Ranked, mine, ranked, texts_of_passages
from byheart_retrain.onnx_export import publish_cross_encoder, sha256
from byheart_retrain.reranker_training import RerankerSettings, TrainedReranker, train_reranker
from byheart_retrain.training import Example, passes
from byheart_store import MemoryStore
from byheart_store.models import Reranker, RerankerFile, cores, load_reranker
from byheart_store.ranking import Reranking, readable, reranked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondStage:
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
    train: Sequence[Query],
    known: Sequence[Query],
    dev: Sequence[Query],
    folder: Path,
    work: Path,
    settings: RerankerSettings,
    progress: Callable[[int, int | None], None],
) -> SecondStage:
    """Train a reranker for the model in `folder`, put it beside it, and choose how to use it.

    It learns from the labelled questions and from `known` ones, which ask for a memory by its own
    rare words: without them it forgot that words matter.

    Raises:
        ModelUnavailable: it can't be exported.
    """
    examples = await _examples(trial, [*train, *known], settings)
    trained = await asyncio.to_thread(train_reranker, folder, examples, work, settings, progress)
    alike = await asyncio.to_thread(_exported, trained, folder / FOLDER)
    file = declare_reranker(folder, settings.longest)
    reranker = await asyncio.to_thread(load_reranker, file, threads=cores())
    lists = await ranked(trial, dev, Reranking().depth)
    texts = await texts_of_passages(
        trial, (one for found in lists for one in zip(found.ids, found.passages, strict=True))
    )
    read = [
        [texts.get(one, "") for one in zip(found.ids, found.passages, strict=True)]
        for found in lists
    ]
    tokens, milliseconds = _within_budget(reranker, lists, read)
    by_weight = await asyncio.to_thread(_by_weight, reranker, lists, read, tokens)
    weight = max(sorted(by_weight), key=lambda one: by_weight[one])
    return SecondStage(
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
    entry = {"folder": FOLDER, "sha256": digest, "max_tokens": longest}
    manifest = folder / "byheart.json"
    content = json.loads(manifest.read_text(encoding="utf-8")) | {"reranker": entry}
    manifest.write_text(
        json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n"
    )
    return RerankerFile(onnx, digest, longest)


async def _examples(
    trial: MemoryStore, train: Sequence[Query], settings: RerankerSettings
) -> list[Example]:
    """Each pass over the labels with negatives of its own."""
    examples: list[Example] = []
    wanted, number = 1, 0
    while number < wanted:
        mined = await mine(trial, train, negatives=settings.negatives, seed=settings.seed + number)
        examples += [Example(one.query.text, one.texts[0], one.texts[1:]) for one in mined.examples]
        once = len(mined.examples)
        wanted = passes(once, settings.batch, settings.epochs, settings.fewest_steps)
        number += 1
    return examples


def _exported(trained: TrainedReranker, folder: Path) -> float:
    trained.save(folder)
    return publish_cross_encoder(folder)


def _within_budget(
    reranker: Reranker, lists: Sequence[Ranked], read: Sequence[Sequence[str]]
) -> tuple[int, float]:
    """As many tokens as can be read in time, and the milliseconds that this takes."""
    paces = []
    for found, texts in list(zip(lists, read, strict=True))[:_TIMED]:
        began = time.perf_counter()
        reranker.scores(found.query.text, texts)
        spent = sum(reranker.tokens(found.query.text, text) for text in texts)
        paces.append((time.perf_counter() - began) * 1000 / max(spent, 1))
    pace = sorted(paces)[len(paces) // 2]
    tokens = min(MOST_TOKENS, int(BUDGET / pace) // _STEP * _STEP)
    return tokens, tokens * pace


def _by_weight(
    reranker: Reranker, lists: Sequence[Ranked], read: Sequence[Sequence[str]], tokens: int
) -> dict[float, float]:
    """Mean NDCG@10 of the development questions by the reranker's weight."""
    import numpy as np

    scores: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    for found, texts in zip(lists, read, strict=True):
        count = _count(reranker, found, texts, tokens)
        again = reranker.scores(found.query.text, texts[:count])
        for weight, own in scores.items():
            blended = reranked(found.scores, np.arange(count), again, weight)
            best = np.argsort(-blended, kind="stable")[:_DEPTH]
            own.append(ndcg([found.ids[position] for position in best], found.query.gold, _DEPTH))
    return {weight: sum(own) / len(own) for weight, own in scores.items()}


def _count(reranker: Reranker, found: Ranked, texts: Sequence[str], tokens: int) -> int:
    return readable([reranker.tokens(found.query.text, text) for text in texts], tokens)
