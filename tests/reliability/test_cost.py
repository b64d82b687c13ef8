"""What a receipt costs: the lock, the look-ups, the embedding and the disk, beside a bare add."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import lancedb
import pytest

from byheart_store import Durability, MemoryStore, NewMemory

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(300)]

WARM_UP = 20
MEMORIES = 200
MOST_TIMES_A_BARE_ADD = 3.0
WORDS = ("harbour", "library", "bakery", "museum", "stadium", "garden", "station", "market")


def told(number: int) -> NewMemory:
    text = f"On day {number} Lena met Aro at the {WORDS[number % 8]}, and they spoke of {number}."
    return NewMemory(text=text, session=f"day {number % 5}", speaker="Lena")


async def milliseconds(home: Path, durability: Durability) -> tuple[float, float]:
    """Medians of a remember and of a bare add of the same row, taken in turns."""
    taken: list[tuple[float, float]] = []
    async with await MemoryStore.open(home, durability=durability) as store:
        await store.model_ready()
        await store.remember(told(0))
        connection = await lancedb.connect_async(str(home / "bare"))
        row = await store._database.memories.query().limit(1).to_arrow()
        table = await connection.create_table("memories", row)
        for number in range(1, WARM_UP + MEMORIES):
            began = time.perf_counter()
            await store.remember(told(number))
            remembered = time.perf_counter()
            await table.add(row)
            taken.append((remembered - began, time.perf_counter() - remembered))
    remember, add = (median(times) * 1_000 for times in zip(*taken[WARM_UP:], strict=True))
    return remember, add


async def test_a_durable_receipt_costs_at_most_three_bare_adds(tmp_path: Path) -> None:
    durable, add = await milliseconds(tmp_path / "durable", "fsync")
    lasting, other_add = await milliseconds(tmp_path / "lasting", "os")
    print(
        f"\nremember p50 {durable:.1f} ms with fsync, {lasting:.1f} ms without; "
        f"bare add {add:.1f} and {other_add:.1f} ms: "
        f"{durable / add:.2f} and {lasting / other_add:.2f} times"
    )
    assert durable <= MOST_TIMES_A_BARE_ADD * add
