"""What a recall costs, beside embedding its query and asking each leg of the table alone."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from mcp import Client, StdioServerParameters

from byheart_store import MemoryStore

from .bare import BareEncoder, BareTable
from .corpus import Questions
from .figures import Figures
from .processes import EMPTY, PAUSE, SERVE, environment
from .stores import Built, Stores

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3_600)]

ROUNDS = 5
MOST_IN_A_ROUND, FEWEST_IN_A_ROUND = 100, 5
SECONDS_PER_ROUND = 6.0
WARM_UP = 10
CLIENTS = (1, 8)
BURST = 1.0
"""Seconds of asking at once."""
SIZES_OVER_STDIO = (50, 10_000)
GROWN_FROM = 10_000
GROWTH_ROUND = 1.0
"""Seconds."""


@dataclass(slots=True)
class Timed:
    """Milliseconds of each part of one round, query by query."""

    embedding: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    nearest: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)

    @property
    def slower_leg(self) -> float:
        return max(statistics.median(self.words), statistics.median(self.nearest))

    @property
    def floor(self) -> float:
        """The legs are asked side by side, but the vector leg waits for the embedding."""
        return statistics.median(self.embedding) + self.slower_leg


async def test_recall_costs_little_more_than_its_parts(
    figures: Figures, stores: Stores, size: int
) -> None:
    built = await stores.of(size)
    encoder, bare = BareEncoder(), await BareTable.open(built.home)
    async with await MemoryStore.open(built.home) as store:
        await store.model_ready()
        questions = built.questions(seed=1)
        await _round(store, bare, encoder, questions, WARM_UP)
        rounds = [
            await _round(store, bare, encoder, questions, MOST_IN_A_ROUND) for _ in range(ROUNDS)
        ]
    p50 = [statistics.median(one.recall) for one in rounds]
    embedding = [statistics.median(one.embedding) for one in rounds]
    record = figures.record
    record("embedding", size, "ms", embedding)
    record("text leg", size, "ms", [statistics.median(one.words) for one in rounds])
    record("vector leg", size, "ms", [statistics.median(one.nearest) for one in rounds])
    record("recall p50", size, "ms", p50, [one.floor for one in rounds], "embedding + slower leg")
    record("recall p50 to embedding", size, "ms", p50, embedding, "embedding")
    p99 = [float(np.percentile(one.recall, 99)) for one in rounds]
    record("recall p99", size, "ms", p99)
    figures.hold()


async def _round(
    store: MemoryStore, bare: BareTable, encoder: BareEncoder, questions: Questions, most: int
) -> Timed:
    """The parts alone and the recall by turns, first the one, then the other."""
    timed = Timed()
    began = time.perf_counter()
    for number, question in zip(range(most), questions, strict=False):
        if number >= FEWEST_IN_A_ROUND and time.perf_counter() - began > SECONDS_PER_ROUND:
            break
        if number % 2:
            await _ask_bare(bare, encoder, question, timed)
        timed.recall.append(await _milliseconds(lambda text=question: _full(store, text)))
        if not number % 2:
            await _ask_bare(bare, encoder, question, timed)
    return timed


async def _ask_bare(bare: BareTable, encoder: BareEncoder, question: str, timed: Timed) -> None:
    began = time.perf_counter()
    vector = encoder.query(question)
    timed.embedding.append(1_000 * (time.perf_counter() - began))
    timed.words.append(await _milliseconds(lambda: bare.words(question)))
    timed.nearest.append(await _milliseconds(lambda: bare.nearest(vector)))


async def _milliseconds(ask: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await ask()
    return 1_000 * (time.perf_counter() - began)


async def _full(store: MemoryStore, question: str) -> None:
    recall = await store.recall(question)
    assert recall.hits
    assert not recall.degraded


@pytest.mark.parametrize("clients", CLIENTS)
async def test_recalls_per_second(
    figures: Figures, stores: Stores, size: int, clients: int
) -> None:
    built = await stores.of(size)
    encoder, bare = BareEncoder(), await BareTable.open(built.home)
    ours, floors = [], []
    async with await MemoryStore.open(built.home) as store:
        await store.model_ready()
        questions = built.questions(seed=2)
        for _ in range(3):
            ours.append(await _per_second(lambda text: _full(store, text), questions, clients))
            floors.append(
                await _per_second(lambda text: bare.both(encoder, text), questions, clients)
            )
    name = f"recalls per second, {clients} client{'s'[: clients - 1]}"
    figures.record(name, size, "/s", ours, floors, "embedding and legs, as many clients")
    figures.hold()


async def _per_second(
    ask: Callable[[str], Awaitable[None]], questions: Iterator[str], clients: int
) -> float:
    began = time.perf_counter()

    async def client() -> int:
        asked = 0
        while time.perf_counter() - began < BURST:
            await ask(next(questions))
            asked += 1
        return asked

    counts = await asyncio.gather(*(client() for _ in range(clients)))
    return sum(counts) / (time.perf_counter() - began)


async def test_a_client_over_stdio_waits_little_longer(
    figures: Figures, stores: Stores, size: int
) -> None:
    if size not in SIZES_OVER_STDIO:
        pytest.skip("the wire does not depend on the size")
    built = await stores.of(size)
    async with (
        await MemoryStore.open(built.home) as store,
        Client(_over_stdio([*SERVE, "--home", str(built.home)])) as served,
        Client(_over_stdio([*EMPTY, "echo"])) as empty,
    ):
        await store.model_ready()
        questions = built.questions(seed=3)
        await _until_full(served, questions)
        ours, floors = [], []
        for _ in range(ROUNDS):
            wire, alone, echo = [], [], []
            for question in (next(questions) for _ in range(MOST_IN_A_ROUND // 2)):
                echo.append(
                    await _milliseconds(
                        lambda text=question: empty.call_tool("echo", {"text": text})
                    )
                )
                alone.append(await _milliseconds(lambda text=question: _full(store, text)))
                wire.append(await _milliseconds(lambda text=question: _answer(served, text)))
            ours.append(wire)
            floors.append(statistics.median(alone) + statistics.median(echo))
    p50 = list(map(statistics.median, ours))
    figures.record("recall over stdio p50", size, "ms", p50, floors, "recall + echo over stdio")
    p99 = [float(np.percentile(one, 99)) for one in ours]
    figures.record("recall over stdio p99", size, "ms", p99)
    figures.hold()


def _over_stdio(command: list[str]) -> StdioServerParameters:
    return StdioServerParameters(command=command[0], args=command[1:], env=environment(None))


async def _until_full(client: Client, questions: Questions) -> None:
    for question in questions:
        if not (await _answer(client, question))["degraded"]:
            return
        await asyncio.sleep(PAUSE)


async def _answer(client: Client, question: str) -> dict[str, object]:
    answer = (await client.call_tool("recall", {"query": question})).structured_content
    assert answer is not None
    return answer


async def test_recall_grows_slower_than_the_store(
    figures: Figures, stores: Stores, sizes: tuple[int, ...]
) -> None:
    small, large = GROWN_FROM, max(sizes)
    if small not in sizes or large <= small:
        pytest.skip(f"needs {small:,} memories and more")
    homes: tuple[Built, Built] = (await stores.of(small), await stores.of(large))
    rounds: list[tuple[float, float]] = []
    async with (
        await MemoryStore.open(homes[0].home) as of_few,
        await MemoryStore.open(homes[1].home) as of_many,
    ):
        asked = [built.questions(seed=4) for built in homes]
        for _ in range(ROUNDS + 1):
            few, many = [], []
            began = time.perf_counter()
            while len(few) < FEWEST_IN_A_ROUND or time.perf_counter() - began < GROWTH_ROUND:
                few.append(await _milliseconds(lambda: _full(of_few, next(asked[0]))))
                many.append(await _milliseconds(lambda: _full(of_many, next(asked[1]))))
            rounds.append((statistics.median(few), statistics.median(many)))
    few_rounds, many_rounds = zip(*rounds[1:], strict=True)
    figures.record(
        "recall p50, growth", large, "ms", many_rounds, few_rounds, f"recall at {small:,}"
    )
    figures.hold()
