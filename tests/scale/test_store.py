"""What a store does in a bucket: the same as on disk, for servers that share nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byheart_store import (
    MemoryStore,
    NewMemory,
    StoreBusy,
    StoreUnavailable,
    UnknownMemory,
    UnknownRecall,
)
from byheart_store.moments import uuid7
from byheart_store.tables.lease import Lease
from byheart_store.tables.location import Location


@pytest.fixture
async def here(uri: str, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(tmp_path / "here", uri=uri) as store:
        yield store


@pytest.fixture
async def there(here: MemoryStore, uri: str, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    """Another host: it shares the bucket and no folder."""
    async with await MemoryStore.open(tmp_path / "there", uri=uri) as store:
        yield store


async def test_what_one_host_remembers_another_recalls(
    here: MemoryStore, there: MemoryStore, tmp_path: Path
) -> None:
    told = await here.remember(NewMemory(text="Ana likes tea", session="s", speaker="Ana"))
    (hit,) = (await there.recall("What does Ana drink?")).hits
    assert hit.id == told.id
    assert (await there.remember(NewMemory(text="Ana likes tea", session="s"))).status == (
        "duplicate"
    )
    replaced = await there.remember(NewMemory(text="Ana likes coffee", replaces=told.id))
    assert replaced.status == "replaced"
    assert [hit.id for hit in (await here.recall("tea")).hits] == [replaced.id]
    assert not (tmp_path / "here" / "db").exists()


async def test_what_one_host_forgets_is_gone_for_another(
    here: MemoryStore, there: MemoryStore
) -> None:
    told = await here.remember(NewMemory(text="Ana likes tea"))
    kept = await here.remember(NewMemory(text="Ben likes tea"))
    assert (await there.forget([told.id])).ids == (told.id,)
    with pytest.raises(UnknownMemory):
        await here.get(told.id)
    await there.purge()
    assert [hit.id for hit in (await here.recall("tea")).hits] == [kept.id]


async def test_one_host_judges_what_another_has_recalled(
    here: MemoryStore, there: MemoryStore
) -> None:
    told = await here.remember(NewMemory(text="Ana likes tea"))
    found = await here.recall("tea")
    assert (await there.feedback(found.recall_id, [told.id])).useful == 1
    (label,) = await here.labels()
    assert (label.memory_id, label.useful) == (told.id, True)


async def test_a_recall_id_of_long_ago_that_nobody_logged_is_refused_at_once(
    here: MemoryStore,
) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(UnknownRecall):
            await here.feedback("01890a5d-ac96-774b-bcce-b302099a8057", ["m"])


async def test_a_change_of_models_is_one_host_s_at_a_time(
    here: MemoryStore, there: MemoryStore, location: Location, other_model: str
) -> None:
    await here.remember(NewMemory(text="Ana likes tea"))
    assert (await here.reindex(other_model)).rows == 1
    assert (await there.recall("tea")).hits
    assert next(one for one in await there.models() if one.active).model == other_model
    lease = Lease(location, "reindex")
    await lease.acquire(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("byheart_store.tables.database.LONGEST_SILENCE", 0.1)
        with pytest.raises(StoreBusy, match="another process is embedding"):
            await there.reindex(other_model)
    await lease.release()


async def test_a_table_that_is_gone_does_not_look_empty(
    here: MemoryStore, location: Location, uri: str, tmp_path: Path
) -> None:
    await (await location.connect()).drop_table("recalls")
    with pytest.raises(StoreUnavailable, match=r"the table recalls of s3://.* is gone; bring it"):
        await MemoryStore.open(tmp_path / "there", uri=uri)


async def test_many_commits_are_compacted(here: MemoryStore, there: MemoryStore) -> None:
    await here.remember_many([NewMemory(text=f"note {number}") for number in range(200)])
    await here.reindex()
    assert (await there.stats()).memories == 200
    assert len((await there.recall("note")).hits) == 8


async def test_a_bucket_that_ignores_conditions_is_refused(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = location.objects()

    class Careless:
        delete_async = objects.delete_async

        async def put_async(self, path: str, content: bytes, mode: object) -> object:
            return await objects.put_async(path, content)

    monkeypatch.setattr(Location, "objects", lambda _: Careless())
    with pytest.raises(StoreUnavailable, match="does not honour conditional puts"):
        await Lease(location, "write").check_honoured()


async def test_a_recall_id_of_just_now_is_waited_for_in_vain(
    here: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byheart_store.recall.journal.LOGGED_ELSEWHERE_WITHIN", 0.3)
    with pytest.raises(UnknownRecall):
        await here.feedback(uuid7(), ["m"])
