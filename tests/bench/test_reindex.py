"""How long another model takes to be switched to, and what recalls feel of it meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from byheart_store import MemoryStore

from .bare import fastest_encoding, seconds
from .corpus import Questions
from .figures import Figures
from .stores import Stores

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3_600)]

LARGEST = 100_000
SAMPLE = 2_000
BEFORE = 6.0
"""Seconds of recalls, to compare with."""
WARM_UP = 10


async def test_recalls_go_on_amid_a_reindex(
    figures: Figures, stores: Stores, size: int, quick_model: Path, ground: Path
) -> None:
    if size > LARGEST:
        pytest.skip("takes too long")
    built = await stores.of(size)
    home = shutil.copytree(built.home, ground / f"reindexed {size}")
    questions = built.questions(seed=7)
    async with await MemoryStore.open(home) as store:
        await _recalls(store, questions, lambda count, _: count < WARM_UP)
        before = await _recalls(store, questions, lambda _, passed: passed < BEFORE)
        reindexing = asyncio.create_task(store.reindex(str(quick_model)))
        during = await _recalls(store, questions, lambda *_: not reindexing.done())
        done = await reindexing
    shutil.rmtree(home)
    assert done.rows >= size  # a long text has several passages
    sample = [text for text, _ in zip(built.remembered.texts, range(SAMPLE), strict=False)]
    encode = fastest_encoding(quick_model, sample[:200])
    encoding = seconds(encode, sample) * size / len(sample)
    figures.record("reindex", size, "s", [done.seconds], [encoding], "encoding alone")
    p99 = [float(np.percentile(during, 99))], [float(np.percentile(before, 99))]
    figures.record("recall p99 amid reindex", size, "ms", *p99, "before it")
    figures.hold()


async def _recalls(
    store: MemoryStore, questions: Questions, goes_on: Callable[[int, float], bool]
) -> list[float]:
    """Milliseconds of recalls one after the other; `goes_on` gets their count and the seconds."""
    began = time.perf_counter()
    found: list[float] = []
    while not found or goes_on(len(found), time.perf_counter() - began):
        started = time.perf_counter()
        assert (await store.recall(next(questions))).hits
        found.append(1_000 * (time.perf_counter() - started))
    return found
