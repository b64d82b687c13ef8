"""Memories told at the same time share a commit, and nothing else: each has its own answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from byheart_store import InvalidInput, MemoryStore, NewMemory, UnknownMemory

from ..peeking import database_at


async def version(home: Path) -> int:
    async with database_at(home) as database:
        return await database.memories.version()


async def test_memories_told_at_once_share_commits(home: Path, store: MemoryStore) -> None:
    await store.model_ready()
    before = await version(home)
    told = await asyncio.gather(
        *(store.remember(NewMemory(text=f"note {number}")) for number in range(50))
    )
    assert len({receipt.id for receipt in told}) == 50
    assert (await store.stats()).memories == 50
    # The first one goes at once, and the others together; compaction may add some.
    assert await version(home) - before < 10


async def test_what_one_may_not_have_the_others_get(store: MemoryStore) -> None:
    old = await store.remember(NewMemory(text="Ana likes tea", id="tea"))
    told = await asyncio.gather(
        store.remember(NewMemory(text="first")),
        store.remember(NewMemory(text="another", id="tea")),
        store.remember(NewMemory(text="Ana likes coffee", replaces=old.id)),
        store.remember(NewMemory(text="Ana likes water", replaces=old.id)),
        store.remember(NewMemory(text="Ana likes milk", replaces="nobody")),
        store.remember(NewMemory(text="last")),
        return_exceptions=True,
    )
    kinds = [type(one) if isinstance(one, Exception) else one.status for one in told]
    assert kinds == ["stored", InvalidInput, "replaced", InvalidInput, UnknownMemory, "stored"]
    texts = {memory.text async for memory in store.memories()}
    assert texts == {"Ana likes tea", "first", "Ana likes coffee", "last"}


async def test_turns_told_at_once_follow_each_other(store: MemoryStore) -> None:
    ids = [
        receipt.id
        for receipt in await asyncio.gather(
            *(store.remember(NewMemory(text=f"turn {n}", session="s")) for n in range(20))
        )
    ]
    assert [(await store.get(name)).turn for name in ids] == list(range(20))


async def test_one_who_gives_up_takes_nobody_along(store: MemoryStore) -> None:
    await store.model_ready()
    told = [asyncio.create_task(store.remember(NewMemory(text=f"note {n}"))) for n in range(5)]
    await asyncio.sleep(0)
    told[2].cancel()
    kept = await asyncio.gather(*told, return_exceptions=True)
    assert isinstance(kept[2], asyncio.CancelledError)
    assert [one.status for one in kept if not isinstance(one, BaseException)] == ["stored"] * 4


async def test_what_is_told_without_a_store_to_write_to_is_refused_to_all(
    home: Path, store: MemoryStore
) -> None:
    await store.remember(NewMemory(text="Ana likes tea"))
    model = (await store.models())[0].model
    async with await MemoryStore.open(home, model=model, trial=True) as trial:
        told = await asyncio.gather(
            *(trial.remember(NewMemory(text=f"note {n}")) for n in range(3)),
            return_exceptions=True,
        )
    assert ["read-only" in str(error) for error in told] == [True] * 3
