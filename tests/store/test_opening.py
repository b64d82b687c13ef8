from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import lancedb
import pytest

from byheart_store import MemoryStore, NewMemory, StoreUnavailable, UnknownMemory
from byheart_store.models.passages import EMBEDDED
from byheart_store.tables import schema


async def describe_anew(home: Path, description: str) -> None:
    connection = await lancedb.connect_async(str(home / "db"))
    table = await connection.open_table(schema.MEMORIES)
    metadata = {schema.DESCRIPTION_KEY: description}
    await table.update_field_metadata({"path": schema.DESCRIBED_FIELD, "metadata": metadata})


def be_nobody(folder: Path) -> None:
    """Rights mean nothing to root, which becomes another user until the end of the test."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    if not all(os.access(path, os.R_OK, effective_ids=True) for path in (folder, EMBEDDED)):
        pytest.skip("this checkout or the folder for temporary files is closed to other users")


async def test_a_home_is_made_where_there_is_none(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "er" / "日本 home"
    async with await MemoryStore.open(home) as store:
        assert Path(store.location).is_relative_to(home)


async def test_a_new_store_records_its_format(store: MemoryStore) -> None:
    stats = await store.stats()
    assert (stats.format, stats.memories, stats.model) == (schema.FORMAT, 0, None)


async def test_the_first_model_is_recorded(store: MemoryStore) -> None:
    await store.model_ready()
    stats = await store.stats()
    assert stats.model == "all-MiniLM-L6-v2"
    assert stats.fingerprint


async def test_memories_are_there_when_a_store_is_opened_again(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        told = await store.remember(NewMemory(text="Ana likes tea"))
    async with await MemoryStore.open(home) as store:
        assert (await store.recall("tea")).hits[0].id == told.id


async def test_two_open_stores_see_each_other_at_once(home: Path, store: MemoryStore) -> None:
    async with await MemoryStore.open(home) as other:
        told = await store.remember(NewMemory(text="Ana likes tea"))
        assert (await other.recall("tea")).hits[0].id == told.id
        await other.forget([told.id])
        with pytest.raises(UnknownMemory):
            await store.get(told.id)


async def test_many_may_create_a_store_at_once(home: Path) -> None:
    stores = await asyncio.gather(*(MemoryStore.open(home) for _ in range(5)))
    await asyncio.gather(
        *(one.remember(NewMemory(text=f"told by {n}")) for n, one in enumerate(stores))
    )
    assert {(await one.stats()).memories for one in stores} == {5}
    for one in stores:
        await one.close()


async def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreUnavailable, match="is a file"):
        await MemoryStore.open(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["file/below", "\x00", "x" * 300])
async def test_a_home_that_can_not_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreUnavailable, match="choose a folder"):
        await MemoryStore.open(tmp_path / name)


async def test_a_home_that_can_not_be_made_is_refused(read_only: Path) -> None:
    be_nobody(read_only)
    with pytest.raises(StoreUnavailable, match="can't be created"):
        await MemoryStore.open(read_only / "home")


async def test_a_home_that_can_not_be_written_is_refused(read_only: Path) -> None:
    be_nobody(read_only)
    with pytest.raises(StoreUnavailable, match="permissions"):
        await MemoryStore.open(read_only)


async def test_a_store_that_can_only_be_read_is_still_recalled(home: Path, read_only: Path) -> None:
    async with await MemoryStore.open(home) as store:
        told = await store.remember(NewMemory(text="Ana likes tea"))
    kept = shutil.copytree(home, read_only / "home")
    for path in [kept, *kept.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    be_nobody(read_only)
    async with await MemoryStore.open(kept) as store:
        recall = await store.recall("what does Ana drink?")
        assert ([hit.id for hit in recall.hits], recall.degraded) == ([told.id], False)
        with pytest.raises(StoreUnavailable, match="permissions"):
            await store.remember(NewMemory(text="not stored"))


async def test_a_store_of_a_newer_format_is_refused(home: Path, store: MemoryStore) -> None:
    await describe_anew(home, '{"format": 99, "anything": "else"}')
    with pytest.raises(StoreUnavailable, match=r"format 99.*pip install -U byheart"):
        await MemoryStore.open(home)


async def test_an_unknown_key_of_the_same_format_is_passed_over(
    home: Path, store: MemoryStore
) -> None:
    described = {"format": schema.FORMAT, "active": None, "columns": [], "colour": "red"}
    await describe_anew(home, json.dumps(described))
    async with await MemoryStore.open(home) as other:
        assert (await other.stats()).format == schema.FORMAT


async def test_a_store_whose_making_was_interrupted_is_completed(home: Path) -> None:
    connection = await lancedb.connect_async(str(home / "db"))
    layout = schema.described(schema.memories_schema(), schema.Description())
    await connection.create_table(schema.MEMORIES, schema=layout)
    async with await MemoryStore.open(home) as store:
        told = await store.remember(NewMemory(text="Ana likes tea"))
        assert (await store.recall("tea", mode="text")).hits[0].id == told.id


async def test_a_table_that_is_gone_is_not_taken_for_an_empty_one(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        await store.remember(NewMemory(text="Ana likes tea"))
    shutil.rmtree(home / "db" / "memories.lance")
    with pytest.raises(StoreUnavailable, match=r"the table memories of .* is gone.*byheart doctor"):
        await MemoryStore.open(home)


async def test_a_store_that_is_gone_is_said_to_be(home: Path, store: MemoryStore) -> None:
    await store.remember(NewMemory(text="Ana likes tea"))
    shutil.rmtree(home / "db")
    for access in (store.recall("tea"), store.get("m1"), store.stats(), store.labels()):
        with pytest.raises(StoreUnavailable, match="can't be used") as caught:
            await access
        assert ".rs:" not in str(caught.value)
    with pytest.raises(StoreUnavailable):
        await store.remember(NewMemory(text="not stored"))
    with pytest.raises(StoreUnavailable):
        [memory async for memory in store.memories()]


async def test_a_get_of_nothing_says_where_ids_come_from(store: MemoryStore) -> None:
    with pytest.raises(UnknownMemory, match="'nothing'; take the id from a recall"):
        await store.get("nothing")
