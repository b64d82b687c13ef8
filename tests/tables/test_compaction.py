"""Single writes, however many, keep the store small and quick."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import lancedb
import pytest

from byheart_store import MemoryStore, NewMemory
from byheart_store.tables import maintenance, schema

AS_IT_IS = maintenance.COMMITS_BETWEEN_COMPACTIONS


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old versions are dropped at once, as they are otherwise after some seconds."""
    monkeypatch.setattr(maintenance, "OLD_VERSIONS_KEPT", timedelta(milliseconds=100))


@pytest.fixture(params=[16, pytest.param(AS_IT_IS, marks=pytest.mark.slow)])
def bound(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Commits between compactions: a quarter of them shows the same with a quarter of writes."""
    commits: int = request.param
    monkeypatch.setattr(maintenance, "COMMITS_BETWEEN_COMPACTIONS", commits)
    return commits


async def fragments_and_versions(home: Path, name: str) -> tuple[int, int]:
    table = await (await lancedb.connect_async(str(home / "db"))).open_table(name)
    stats = await table.stats()
    fragments: int = stats["fragment_stats"]["num_fragments"]  # type: ignore[index]
    return fragments, len(await table.list_versions())


async def unindexed(home: Path) -> int:
    table = await (await lancedb.connect_async(str(home / "db"))).open_table(schema.MEMORIES)
    (name,) = [one.name for one in await table.list_indices() if one.columns == [schema.SEARCHED]]
    stats = await table.index_stats(name)
    assert stats is not None
    return stats.num_unindexed_rows


async def test_many_single_writes_stay_bounded(
    home: Path, store: MemoryStore, hasty: None, bound: int
) -> None:
    for number in range(200 * bound // AS_IT_IS):
        await store.remember(NewMemory(text=f"Note {number} about apples"))
    await store.close()
    fragments, versions = await fragments_and_versions(home, schema.MEMORIES)
    assert fragments < 2 * bound
    assert versions < 2.5 * bound
    async with await MemoryStore.open(home) as store:
        assert 0 < ((await store.stats()).bytes or 0) < 4_000_000


async def test_deletes_do_not_pile_up_versions(
    home: Path, store: MemoryStore, hasty: None, bound: int
) -> None:
    count = 150 * bound // AS_IT_IS
    batch = [NewMemory(text=f"Note {number} about apples") for number in range(count)]
    for receipt in await store.remember_many(batch):
        await store.forget([receipt.id])
    await store.close()
    _, versions = await fragments_and_versions(home, schema.MEMORIES)
    assert versions < 2.5 * bound


async def test_short_lived_processes_compact_as_well(home: Path, hasty: None, bound: int) -> None:
    for number in range(90 * bound // AS_IT_IS):
        async with await MemoryStore.open(home, model="no/such-model") as store:
            await store.remember(NewMemory(text=f"Note {number} about apples"))
    fragments, _ = await fragments_and_versions(home, schema.MEMORIES)
    assert fragments < 1.2 * bound


async def test_the_recall_log_is_compacted_too(
    home: Path, store: MemoryStore, hasty: None, bound: int
) -> None:
    for number in range(150 * bound // AS_IT_IS):
        await store.recall(f"question {number}", mode="text")
        await store.logged_recalls()
    await store.close()
    fragments, _ = await fragments_and_versions(home, schema.RECALLS)
    assert fragments < 2 * bound


async def test_words_of_an_import_are_indexed_when_it_ends(home: Path, store: MemoryStore) -> None:
    for first in range(0, 300, 100):
        await store.remember_many([NewMemory(text=f"Note {first + n}") for n in range(100)])
    await store.close()
    assert await unindexed(home) == 0


async def test_words_of_a_burst_are_indexed_when_it_is_over(
    home: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "QUIET_AFTER_WRITES", 0.1)
    await store.remember_many([NewMemory(text=f"Note {number}") for number in range(300)])
    for _ in range(200):
        if await unindexed(home) == 0:
            return
        await asyncio.sleep(0.1)
    pytest.fail("300 rows are still not in the index")


async def test_words_are_indexed_while_an_import_runs(
    home: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "ROWS_BETWEEN_COMPACTIONS", 100)
    monkeypatch.setattr(maintenance, "COMMITS_BETWEEN_COMPACTIONS", 1_000)
    for first in range(0, 250, 50):
        await store.remember_many([NewMemory(text=f"Note {first + n}") for n in range(50)])
    await store.close()
    fragments, _ = await fragments_and_versions(home, schema.MEMORIES)
    assert fragments < 5
    async with await MemoryStore.open(home) as reopened:
        assert (await reopened.stats()).memories == 250


async def test_reindex_compacts(home: Path, store: MemoryStore) -> None:
    ids = [(await store.remember(NewMemory(text=f"Note {n} on apples"))).id for n in range(20)]
    await store.reindex()
    fragments, _ = await fragments_and_versions(home, schema.MEMORIES)
    assert fragments <= 2
    assert {memory.id async for memory in store.memories()} == set(ids)
    assert len((await store.recall("apples", limit=20)).hits) == 20


async def test_nothing_is_swept_after_the_store_is_closed(
    home: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "QUIET_AFTER_WRITES", 0.05)
    async with await MemoryStore.open(home) as store:
        await store.remember_many([NewMemory(text=f"Note {number}") for number in range(40)])
        for _ in range(100):
            await asyncio.sleep(0.02)
            # Due in seconds, and until then seen nowhere else.
            if store._engine.maintenance._sweeps:
                break
        assert store._engine.maintenance._sweeps
    await asyncio.sleep(0.3)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert all(timer.cancelled() for timer in store._engine.maintenance._sweeps.values())
