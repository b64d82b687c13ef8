"""How long a recall takes in a small and in a large store, beside embedding the query alone."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from byheart_store import MemoryStore, NewMemory
from byheart_store.encoder import Encoder, load_encoder
from byheart_store.passages import EMBEDDED

SIZES = (50, 5_882)
QUERIES = 200
WARM_UP = 20
TURNS_IN_A_SESSION = 20
# Loose, to hold on a busy machine: what is asserted is the order of magnitude.
LONGEST_P50 = 25
LONGEST_GROWTH = 10

Milliseconds = list[float]


class Writer:
    """Writes texts whose words are as unevenly spread as those of a language (Zipf's law)."""

    def __init__(self, seed: int) -> None:
        tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_text(encoding="utf-8"))
        self._random = random.Random(seed)
        # The encoder's vocabulary: single characters, then words, the most used ones first.
        vocabulary = tokenizer["model"]["vocab"]
        self._words = [word for word in vocabulary if word.isalpha() and len(word) > 1]
        self._weights = [1 / rank for rank in range(1, len(self._words) + 1)]

    def text(self, shortest: int, longest: int) -> str:
        count = self._random.randint(shortest, longest)
        return " ".join(self._random.choices(self._words, self._weights, k=count))

    def memories(self, count: int) -> Iterator[NewMemory]:
        for number in range(count):
            session = f"s{number // TURNS_IN_A_SESSION}"
            yield NewMemory(text=self.text(5, 45), session=session, speaker=f"p{number % 2}")

    def question_about(self, text: str) -> str:
        """Some words of the text, and some that stand elsewhere."""
        words = text.split()
        return " ".join([*self._random.sample(words, k=4), self.text(3, 5)])


@pytest.mark.bench
@pytest.mark.timeout(600)
async def test_recall_is_fast_in_small_and_large_stores(tmp_path: Path) -> None:
    encoder = load_encoder(None, cache_dir=tmp_path / "cache")
    rows, medians = [], []
    for size in SIZES:
        embedding, recall = await _measured(encoder, tmp_path / str(size), size)
        rows += [(size, "embedding the query", embedding), (size, "recall", recall)]
        medians.append((np.percentile(embedding, 50), np.percentile(recall, 50)))
    print("\n\nmilliseconds    memories     p50     p99")
    for size, what, times in rows:
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{what:<20}{size:>8,}{p50:>8.1f}{p99:>8.1f}")
    for embedding_alone, whole in medians:
        assert whole <= LONGEST_P50 * embedding_alone
    assert medians[-1][1] <= LONGEST_GROWTH * medians[0][1]


async def _measured(encoder: Encoder, home: Path, size: int) -> tuple[Milliseconds, Milliseconds]:
    """What embedding each query takes, and what recalling it does, turn by turn."""
    writer = Writer(seed=size)
    memories = list(writer.memories(size))
    picked = random.Random(1).choices(memories, k=WARM_UP + QUERIES)
    queries = [writer.question_about(memory.text) for memory in picked]
    embedding, recall = [], []
    async with await MemoryStore.open(home) as store:
        await store.remember_many(memories)
    async with await MemoryStore.open(home) as store:
        await store.model_ready()
        for query in queries:
            started = time.perf_counter()
            encoder.encode_query(query)
            embedded = time.perf_counter()
            found = await store.recall(query)
            embedding.append(1_000 * (embedded - started))
            recall.append(1_000 * (time.perf_counter() - embedded))
            assert found.hits
    return embedding[WARM_UP:], recall[WARM_UP:]
