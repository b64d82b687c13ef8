"""Labels that mean nothing teach nothing: a retraining on them never reaches a promotion."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byheart_retrain.queries import LabelledQuery
from byheart_retrain.retraining import Outcome, Retraining, RetrainSettings
from byheart_retrain.training import TrainingSettings
from byheart_store import Home, MemoryStore, NewMemory

from ..world import memories, questions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEEDS = 20


@pytest.fixture
async def store(home: Path) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(home) as opened:
        await opened.model_ready()
        await opened.remember_many(
            [NewMemory(text=text, id=f"m{number}") for number, text in enumerate(memories())]
        )
        yield opened


@contextmanager
def silent(_: str) -> Iterator[Callable[[int, int | None], None]]:
    yield lambda done, total: None


def shuffled(seed: int) -> list[LabelledQuery]:
    """Every question with the answer to another one, drawn at random."""
    asked = questions()
    answers = random.Random(seed).sample([one.answer for one in asked], len(asked))
    return [
        LabelledQuery(f"q{number}", one.question, frozenset({f"m{answer}"}))
        for number, (one, answer) in enumerate(zip(asked, answers, strict=True))
    ]


async def retrained(store: MemoryStore, home: Path, seed: int) -> Outcome:
    async def trial(model: str) -> MemoryStore:
        return await MemoryStore.open(home, model=model, trial=True)

    settings = RetrainSettings(
        output=home / "models" / f"noise-{seed}",
        seed=seed,
        rerank=False,
        training=TrainingSettings(negatives=1, fewest_steps=12),
    )
    return await Retraining(store, Home(home), trial, settings, silent).run(shuffled(seed))


async def test_noise_is_never_promoted(store: MemoryStore, home: Path) -> None:
    outcomes = [await retrained(store, home, seed) for seed in range(SEEDS)]
    assert [outcome.reason for outcome in outcomes if outcome.passed] == []
    assert [model.model for model in await store.models()] == ["all-MiniLM-L6-v2"]
