"""One of several processes at work on a store; tells what it intends and what was acknowledged.

Each line on standard output is JSON: [what, key, id]. A line is written before a memory is
forgotten and after each receipt, so that whoever kills this process knows what must be there.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

from byheart_store import MemoryStore, NewMemory, StoreBusy

PATIENCE = 120.0


def say(what: str, key: str = "", memory_id: str = "") -> None:
    print(json.dumps([what, key, memory_id]), flush=True)


BUSY = ("another process is embedding", "the indexes are being made")
"""Why a piece of upkeep may be refused: of two processes that purge, one is told to wait."""


class Worker:
    """Draws what to do next; forgets only what it has stored itself."""

    def __init__(self, store: MemoryStore, name: str, models: list[str]) -> None:
        self.store = store
        self.name = name
        self.models = models
        self.draw = random.Random(name)
        self.mine: list[str] = []
        self.done = 0

    async def work(self) -> None:
        tasks = (self.remember, self.share, self.recall, self.judge, self.forget, self.tidy)
        while True:
            (task,) = self.draw.choices(tasks, weights=(50, 10, 15, 10, 12, 3))
            await task()
            self.done += 1

    async def remember(self) -> None:
        text = f"note {self.done} of {self.name}"
        receipt = await self.store.remember(NewMemory(text=text, session="log"))
        say("stored", text, receipt.id)
        self.mine.append(receipt.id)

    async def share(self) -> None:
        day = f"what everyone saw on day {self.draw.randrange(400)}"
        receipt = await self.store.remember(NewMemory(text=day, key=day))
        say("stored", day, receipt.id)

    async def recall(self) -> None:
        found = await self.store.recall(f"note {self.done}", wait_for_model=False)
        say("recalled", found.recall_id)

    async def judge(self) -> None:
        found = await self.store.recall("what everyone saw", limit=3, wait_for_model=False)
        shared = [hit.id for hit in found.hits if hit.text.startswith("what everyone")]
        if shared:  # others' notes may be forgotten meanwhile
            await self.store.feedback(found.recall_id, shared[:1], shared[1:])
            say("judged", found.recall_id)

    async def forget(self) -> None:
        if not self.mine:
            return
        memory_id = self.mine.pop(self.draw.randrange(len(self.mine)))
        say("forgetting", "", memory_id)
        forgotten = await self.store.forget([memory_id])
        assert forgotten.ids == (memory_id,), forgotten
        say("forgotten", "", memory_id)

    async def tidy(self) -> None:
        way = self.draw.random()
        try:
            if way < 0.5:
                await self.store.reindex()
                say("compacted")
            elif way < 0.8:
                await self.store.reindex(self.draw.choice(self.models))
                say("switched")
            else:
                await self.store.purge()
                say("purged")
        except StoreBusy as busy:
            if not any(reason in str(busy) for reason in BUSY):
                raise
            say("busy")


async def main(home: str, name: str, *models: str) -> None:
    async with await MemoryStore.open(Path(home), patience=PATIENCE) as store:
        store.load_model()
        say("open")
        await Worker(store, name, list(models)).work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
