"""A store of an older format is brought up to date, one step after the other, under the lock."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from byheart_store import MemoryStore, NewMemory, StoreUnavailable
from byheart_store.tables import migrations, schema

Steps = list[str]


@pytest.fixture
async def old_home(home: Path) -> Path:
    async with await MemoryStore.open(home) as store:
        await store.remember(NewMemory(text="Ana likes tea", id="tea"))
    return home


@pytest.fixture
def steps(old_home: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Two formats ahead; the list fills with the steps that were taken."""
    taken: Steps = []

    async def shout(memories: Any, recalls: Any, labels: Any) -> None:
        with pytest.raises(Timeout):
            FileLock(old_home / "write.lock").acquire(timeout=0)
        taken.append("shout")
        await memories.update({"speaker": "ANA"})

    async def doubt(memories: Any, recalls: Any, labels: Any) -> None:
        taken.append("doubt")
        await memories.update({"source": "hearsay"})

    steps = {schema.FORMAT: shout, schema.FORMAT + 1: doubt}
    monkeypatch.setattr(migrations, "FROM_FORMAT", steps)
    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 2)
    return taken


async def test_every_step_is_taken_once_in_order(old_home: Path, steps: Steps) -> None:
    for _ in range(2):
        async with await MemoryStore.open(old_home) as store:
            memory = await store.get("tea")
            assert (memory.speaker, memory.source) == ("ANA", "hearsay")
            assert (await store.stats()).format == schema.FORMAT
    assert steps == ["shout", "doubt"]


async def test_many_that_open_at_once_migrate_once(old_home: Path, steps: Steps) -> None:
    stores = await asyncio.gather(*(MemoryStore.open(old_home) for _ in range(3)))
    for store in stores:
        await store.close()
    assert steps == ["shout", "doubt"]


async def test_a_migration_goes_on_where_it_broke_off(
    old_home: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def power_cut(memories: Any, recalls: Any, labels: Any) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as broken:
        broken.setitem(migrations.FROM_FORMAT, schema.FORMAT - 1, power_cut)  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable, match="power cut"):
            await MemoryStore.open(old_home)
    async with await MemoryStore.open(old_home) as store:
        assert (await store.get("tea")).source == "hearsay"
        assert (await store.recall("tea")).hits[0].id == "tea"
    assert steps == ["shout", "doubt"]


async def test_there_is_a_step_from_every_earlier_format() -> None:
    assert sorted(migrations.FROM_FORMAT) == list(range(1, schema.FORMAT))
