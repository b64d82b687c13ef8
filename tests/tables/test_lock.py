from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from byheart_store import MemoryStore, NewMemory, StoreBusy
from byheart_store.home import Home

Locked = Callable[[], AbstractContextManager[None]]


async def test_a_writer_gives_up_after_its_patience(
    home: Path, store: MemoryStore, locked: Locked
) -> None:
    await store.model_ready()
    async with await MemoryStore.open(home, patience=0.3) as impatient:
        await impatient.model_ready()
        with locked():
            began = time.monotonic()
            with pytest.raises(StoreBusy, match=r"writing for 0.3 s.*try again"):
                await impatient.remember(NewMemory(text="Ana likes tea"))
            assert 0.3 <= time.monotonic() - began < 5
        assert (await impatient.remember(NewMemory(text="Ana likes tea"))).status == "stored"


async def test_a_writer_waits_for_another_process(store: MemoryStore, locked: Locked) -> None:
    await store.model_ready()
    with locked():
        told = asyncio.create_task(store.remember(NewMemory(text="Ana likes tea")))
        done, _ = await asyncio.wait([told], timeout=0.3)
        assert not done
    assert (await told).status == "stored"


async def test_a_reader_does_not_wait(store: MemoryStore, locked: Locked) -> None:
    told = await store.remember(NewMemory(text="Ana likes tea"))
    with locked():
        hits = (await asyncio.wait_for(store.recall("tea", log=False), 5)).hits
    assert [hit.id for hit in hits] == [told.id]


async def test_a_store_can_not_be_made_while_another_keeps_the_lock(
    home: Path, locked: Locked
) -> None:
    with locked(), pytest.raises(StoreBusy):
        await MemoryStore.open(home, patience=0.1)


async def test_a_recall_is_answered_even_if_it_can_not_be_logged(
    home: Path, locked: Locked
) -> None:
    async with await MemoryStore.open(home, patience=0.1) as store:
        await store.remember(NewMemory(text="Ana likes tea"))
        with locked():
            assert (await store.recall("tea")).hits
            assert await store.logged_recalls() == []


async def test_a_cancelled_write_is_finished_before_the_next_begins(
    store: MemoryStore, locked: Locked
) -> None:
    await store.model_ready()
    with locked():
        told = asyncio.create_task(store.remember(NewMemory(text="Ana likes tea", id="tea")))
        await asyncio.wait([told], timeout=0.3)
        told.cancel()
        await asyncio.wait([told], timeout=0.1)
        assert not told.done()
    with pytest.raises(asyncio.CancelledError):
        await told
    assert (await store.get("tea")).text == "Ana likes tea"
    assert (await store.remember(NewMemory(text="next"))).status == "stored"


async def test_writes_cancelled_at_any_moment_leave_a_sound_store(store: MemoryStore) -> None:
    await store.model_ready()
    for number in range(15):
        text = NewMemory(text=f"Ana likes number {number}", id=f"m{number}", session="s")
        told = asyncio.create_task(store.remember(text))
        await asyncio.sleep(number / 500)
        told.cancel()
        await asyncio.wait([told])
    again = [NewMemory(text=f"Ana likes number {n}", id=f"m{n}", session="s") for n in range(15)]
    await store.remember_many(again)
    assert sorted([m.id async for m in store.memories()]) == sorted(m.id or "" for m in again)
    assert (await store.stats()).without_vector == 0


async def test_many_writes_at_once_are_all_done(store: MemoryStore) -> None:
    tasks = [store.remember(NewMemory(text=f"note {n}", session="s")) for n in range(30)]
    ids = [receipt.id for receipt in await asyncio.gather(*tasks)]
    turns = [(await store.get(name)).turn for name in ids]
    assert sorted(turns) == list(range(30))  # type: ignore[type-var]


async def test_the_same_text_told_at_once_is_one_memory(store: MemoryStore) -> None:
    receipts = await asyncio.gather(*[store.remember(NewMemory(text="same")) for _ in range(10)])
    assert len({receipt.id for receipt in receipts}) == 1
    assert sorted(receipt.status for receipt in receipts) == ["duplicate"] * 9 + ["stored"]


async def test_those_who_wait_together_are_told_together(home: Path, locked: Locked) -> None:
    async with await MemoryStore.open(home, patience=1.0) as store:
        await store.model_ready()
        with locked():
            began = time.monotonic()
            waiting = [store.remember(NewMemory(text=f"note {number}")) for number in range(5)]
            told = await asyncio.gather(*waiting, return_exceptions=True)
            taken = time.monotonic() - began
    assert all(isinstance(error, StoreBusy) for error in told)
    assert taken < 4


def test_a_look_at_a_lock_is_not_taken_for_work(home: Path) -> None:
    home.mkdir()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(lambda: [Home(home).is_at_work("index") for _ in range(2_000)])
        while not looking.done():
            with Home(home).exclusively("index", "a look was taken for work"):
                pass
