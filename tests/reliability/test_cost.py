"""What a receipt costs beside a bare add: the look-ups, the lock, the disk, and the embedding."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import lancedb
import pytest

from byheart_store import Durability, MemoryStore, NewMemory
from byheart_store.models.loading import load_encoder
from byheart_store.tables import schema

pytestmark = [pytest.mark.reliability, pytest.mark.alone, pytest.mark.timeout(300)]

WARM_UP = 20
MEMORIES = 200
MOST_TIMES_A_BARE_ADD = 3.0
WORDS = ("harbour", "library", "bakery", "museum", "stadium", "garden", "station", "market")


def told(number: int) -> NewMemory:
    text = f"On day {number} Lena met Aro at the {WORDS[number % 8]}, and they spoke of {number}."
    return NewMemory(text=text, session=f"day {number % 5}", speaker="Lena")


@dataclass(frozen=True, slots=True)
class Medians:
    """Milliseconds of a remember, of embedding its text, and of a bare add of its row."""

    remember: float
    embedding: float
    add: float

    def __str__(self) -> str:
        return (
            f"remember {self.remember:.1f} ms, of it {self.embedding:.1f} the embedding; "
            f"bare add {self.add:.1f} ms: {self.remember / self.add:.2f} times with the "
            f"embedding, {self.times:.2f} without"
        )

    @property
    def times(self) -> float:
        """How many bare adds a receipt costs beside the embedding, which no store can save."""
        return (self.remember - self.embedding) / self.add


async def measured(home: Path, durability: Durability) -> Medians:
    """Each step once for every memory, in turns."""
    taken: list[tuple[float, float, float]] = []
    encoder = load_encoder(None, cache_dir=home / "cache")
    async with await MemoryStore.open(home, durability=durability) as store:
        await store.model_ready()
        await store.remember(told(0))
        connection = await lancedb.connect_async(str(home / "bare"))
        own = await lancedb.connect_async(str(home / "db"))
        row = await (await own.open_table(schema.MEMORIES)).query().limit(1).to_arrow()
        table = await connection.create_table("memories", row)
        for number in range(1, WARM_UP + MEMORIES):
            began = time.perf_counter()
            await store.remember(told(number))
            remembered = time.perf_counter()
            await table.add(row)
            added = time.perf_counter()
            await asyncio.to_thread(encoder.encode_passages, [told(number).text])
            embedded = time.perf_counter()
            taken.append((remembered - began, embedded - added, added - remembered))
    return Medians(*(median(times) * 1_000 for times in zip(*taken[WARM_UP:], strict=True)))


async def test_a_durable_receipt_costs_at_most_three_bare_adds(tmp_path: Path) -> None:
    # Of two rounds the one that was disturbed less.
    rounds = [await measured(tmp_path / f"durable {number}", "fsync") for number in range(2)]
    durable = min(rounds, key=lambda medians: medians.times)
    lasting = await measured(tmp_path / "lasting", "os")
    print(f"\nwith fsync: {durable}\nwithout:    {lasting}")
    assert durable.times <= MOST_TIMES_A_BARE_ADD
