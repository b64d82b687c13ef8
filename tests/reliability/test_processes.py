"""Several processes on one home, and processes that die in the middle of a write."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from byheart_store import Memory, MemoryStore

pytestmark = [pytest.mark.reliability, pytest.mark.alone, pytest.mark.timeout(600)]

PROCESSES = 4
NOTES = 50
KILLS = 20
RECALLS = 200
LONGEST_RECALL = 5.0
"""Seconds; three writers and a reader share what cores there are."""

# Prints each memory once the store has acknowledged it: number, id, status.
WRITER = """
import asyncio, json, sys
from pathlib import Path
from byheart_store import MemoryStore, NewMemory

async def main(home, name, count):
    async with await MemoryStore.open(Path(home)) as store:
        await store.model_ready()
        for number in range(int(count)):
            for text in (f"note {number} of writer {name}", f"what everyone saw on day {number}"):
                receipt = await store.remember(NewMemory(text=text, session="log"))
                print(json.dumps([text, receipt.id, receipt.status]), flush=True)
            if number % 10 == 9:
                await store.recall(f"note {number}")

asyncio.run(main(*sys.argv[1:]))
"""


def writer(home: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(home), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def acknowledged(output: str) -> list[tuple[str, str, str]]:
    """The lines that were written whole."""
    return [tuple(json.loads(line)) for line in output.splitlines(keepends=True) if "\n" in line]


def acknowledged_until_killed(
    home: Path, number: int, seconds: float
) -> list[tuple[str, str, str]]:
    """What a writer acknowledged until so long after its first word."""
    process = writer(home, f"killed {number}", 100_000)
    assert process.stdout
    first = process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    rest, errors = process.communicate()
    assert first, errors
    return acknowledged(first + rest)


async def stored(store: MemoryStore) -> list[Memory]:
    return [memory async for memory in store.memories()]


def assert_one_row_each(memories: list[Memory]) -> None:
    assert Counter(memory.text for memory in memories).most_common(1)[0][1] == 1
    assert Counter(memory.id for memory in memories).most_common(1)[0][1] == 1
    assert sorted(m.turn or 0 for m in memories) == list(range(len(memories)))


async def test_writers_at_once_lose_nothing_and_store_nothing_twice(tmp_path: Path) -> None:
    processes = [writer(tmp_path / "home", str(name), NOTES) for name in range(PROCESSES)]
    outcomes = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, outcomes
    receipts = [line for output, _ in outcomes for line in acknowledged(output)]
    async with await MemoryStore.open(tmp_path / "home") as store:
        memories = await stored(store)
        stats = await store.stats()
    assert_one_row_each(memories)
    assert {(m.text, m.id) for m in memories} == {(text, name) for text, name, _ in receipts}
    assert len(memories) == PROCESSES * NOTES + NOTES
    statuses = Counter(status for _, _, status in receipts)
    assert statuses == {"stored": PROCESSES * NOTES + NOTES, "duplicate": (PROCESSES - 1) * NOTES}
    assert (stats.without_vector, stats.recalls) == (0, PROCESSES * NOTES // 10)


async def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    draw = random.Random(20)
    receipts: list[tuple[str, str, str]] = []
    for kill in range(KILLS):
        receipts += acknowledged_until_killed(tmp_path / "home", kill, draw.uniform(0, 0.6))
    async with await MemoryStore.open(tmp_path / "home") as store:
        memories = await stored(store)
        found = await store.recall(receipts[-1][0])
        stats = await store.stats()
    assert_one_row_each(memories)
    assert {(text, name) for text, name, _ in receipts} <= {(m.text, m.id) for m in memories}
    # At most one memory of each killed writer was committed without its word getting out.
    assert len(memories) <= len({name for _, name, _ in receipts}) + KILLS
    assert receipts[-1][1] in [hit.id for hit in found.hits]
    assert stats.without_vector == 0


async def test_recalls_go_on_while_others_write(tmp_path: Path) -> None:
    home = tmp_path / "home"
    seconds: list[float] = []
    async with await MemoryStore.open(home) as store:
        await store.model_ready()
        writers = [writer(home, f"busy {name}", 100_000) for name in range(3)]
        for process in writers:
            assert process.stdout
            process.stdout.readline()
        for number in range(RECALLS):
            began = time.perf_counter()
            await store.recall(f"note {number}")
            seconds.append(time.perf_counter() - began)
        written = (await store.stats()).memories
        for process in writers:
            process.kill()
            process.communicate()
    p50, worst = sorted(seconds)[RECALLS // 2], max(seconds)
    print(
        f"\n{RECALLS} recalls beside 3 writers, which stored {written} memories: "
        f"p50 {p50 * 1000:.0f} ms, worst {worst * 1000:.0f} ms"
    )
    assert written > len(writers)
    assert worst < LONGEST_RECALL
