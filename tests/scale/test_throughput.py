"""What a store in a bucket costs beside one on disk, in time and in requests."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from byheart_store import MemoryStore, NewMemory
from byheart_store.tables.lease import Lease
from byheart_store.tables.location import Location

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

TIMES = 30
AT_ONCE = 8
BATCH = 256
QUIET = 1.5
"""Seconds after which the rows of a burst have been indexed."""

_REQUEST = re.compile(r'"(?:\x1b\[\d+m)*(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP')


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one operation."""

    name: str
    milliseconds: float
    requests: str

    def __str__(self) -> str:
        return f"{self.name:<34}{self.milliseconds:>8.1f} ms{1_000 / self.milliseconds:>9.1f}/s"


class Meter:
    """Times operations, and counts what the server was asked meanwhile."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.costs: list[Cost] = []

    async def measure(
        self, name: str, count: int, work: Callable[[int], Awaitable[object]]
    ) -> None:
        await work(-1)  # what is done once
        await asyncio.sleep(QUIET)
        before, began = self._log.stat().st_size, time.perf_counter()
        for number in range(count):
            await work(number)
        taken = (time.perf_counter() - began) / count
        self.costs.append(Cost(name, 1_000 * taken, self._requests(before, count)))

    def _requests(self, start: int, count: int) -> str:
        with self._log.open("rb") as log:
            log.seek(start)
            asked = _REQUEST.findall(log.read().decode(errors="replace"))
        kinds = Counter("LIST" if "list-type" in path else kind for kind, path in asked)
        return ", ".join(f"{n / count:.1f} {kind}" for kind, n in kinds.most_common()) or "none"


async def measured(meter: Meter, home: Path, uri: str | None) -> list[Cost]:
    meter.costs = []
    async with await MemoryStore.open(home, uri=uri) as store:
        await store.model_ready()

        async def remember(number: int) -> None:
            await store.remember(NewMemory(text=f"note {number} of the harbour", session="s"))

        async def remember_at_once(number: int) -> None:
            texts = [f"note {number} of boat {boat}" for boat in range(AT_ONCE)]
            await asyncio.gather(*(store.remember(NewMemory(text=text)) for text in texts))

        async def remember_many(number: int) -> None:
            texts = [f"{number}: line {line} of the log" for line in range(BATCH)]
            await store.remember_many([NewMemory(text=text) for text in texts])

        async def recall(number: int) -> None:
            await store.recall(f"harbour {number}", log=False)

        async def recall_after_a_commit(number: int) -> None:
            await store.remember(NewMemory(text=f"the harbour was quiet on day {number}"))
            await store.recall(f"quiet {number}", log=False)

        await meter.measure("remember", TIMES, remember)
        await meter.measure(f"remember, {AT_ONCE} at once", 4, remember_at_once)
        await meter.measure(f"import of {BATCH} in one commit", 4, remember_many)
        await meter.measure("recall", TIMES, recall)
        await meter.measure("remember and recall", 10, recall_after_a_commit)
    return meter.costs


async def test_what_a_bucket_costs(
    tmp_path: Path, uri: str, location: Location, request_log: Path
) -> None:
    meter = Meter(request_log)
    lease = Lease(location, "bench")

    async def take_and_leave(_: int) -> None:
        await lease.acquire(5)
        await lease.release()

    on_disk = await measured(meter, tmp_path / "disk", None)
    in_bucket = await measured(meter, tmp_path / "home", uri)
    await meter.measure("lease, taken and left", TIMES, take_and_leave)
    print("\n\non disk")
    print("\n".join(map(str, on_disk)))
    print("in a bucket of a server on this machine, with the requests of each")
    print("\n".join(f"{cost}   {cost.requests}" for cost in meter.costs))
    assert len(in_bucket) > len(on_disk)
