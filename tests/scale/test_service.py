"""What a store asks of LanceDB Cloud, by its real client, of a stand-in for the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from byheart_store import MemoryStore, NewMemory, StoreUnavailable

from .service import KEY, Service, service


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with service(tmp_path / "cloud") as (url, behind):
        monkeypatch.setenv("LANCEDB_API_KEY", KEY)
        monkeypatch.setenv("LANCEDB_HOST", url)
        yield behind


@pytest.fixture
async def store(cloud: Service, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(tmp_path / "home", uri="db://memories") as opened:
        yield opened


async def test_memories_are_kept_by_the_service(store: MemoryStore, tmp_path: Path) -> None:
    first = await store.remember(NewMemory(text="Ana likes tea", session="s", speaker="Ana"))
    again = await store.remember(NewMemory(text="Ana likes tea", session="s"))
    assert (again.id, again.status) == (first.id, "duplicate")
    second = await store.remember(NewMemory(text="Ana likes coffee", replaces=first.id))
    found = await store.recall("What does Ana drink?")
    assert [hit.id for hit in found.hits] == [second.id]
    assert (await store.feedback(found.recall_id, [second.id])).useful == 1
    async with await MemoryStore.open(tmp_path / "other", uri="db://memories") as other:
        stats = await other.stats()
        assert (stats.memories, stats.recalls, stats.labels) == (2, 1, 1)
        await other.forget([second.id])
    assert [hit.id for hit in (await store.recall("coffee")).hits] == []


async def test_compaction_is_the_service_s_own(store: MemoryStore, cloud: Service) -> None:
    await store.remember_many([NewMemory(text=f"note {number}") for number in range(100)])
    assert (await store.reindex()).rows == 0
    with pytest.raises(StoreUnavailable, match="keeps and deletes its own files"):
        await store.purge()
    assert (await store.stats()).memories == 100


async def test_a_key_that_is_wrong_is_told(
    cloud: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANCEDB_API_KEY", "another")
    with pytest.raises(StoreUnavailable, match="db://memories"):
        await MemoryStore.open(tmp_path / "home", uri="db://memories")
