"""A store as format 2 wrote it: nothing told who had brought a memory."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pytest

from byheart_store import MemoryStore, NewMemory, Origin
from byheart_store.tables import schema

from ..peeking import description_at

NOBODY = Origin(client="a client", token="a token")


@pytest.fixture
async def old_home(home: Path) -> Path:
    """A store with vectors, taken back to the layout of format 2."""
    async with await MemoryStore.open(home) as store:
        await store.model_ready()
        await store.remember(NewMemory(text="My sister plays the bassoon.", session="dinner"))
    description = await description_at(home)
    connection = await lancedb.connect_async(str(home / "db"))
    memories = await connection.open_table(schema.MEMORIES)
    await memories.drop_columns(["client", "token"])
    told = description.at_format(2).to_json()
    await memories.update_field_metadata(
        {"path": schema.DESCRIBED_FIELD, "metadata": {schema.DESCRIPTION_KEY: told}}
    )
    return home


async def test_nothing_of_it_is_lost(old_home: Path) -> None:
    async with await MemoryStore.open(old_home) as store:
        (memory,) = [memory async for memory in store.memories()]
        assert (memory.text, memory.client, memory.token) == (
            "My sister plays the bassoon.",
            None,
            None,
        )
        stats = await store.stats()
        assert (stats.format, stats.without_vector) == (schema.FORMAT, 0)


async def test_it_can_be_added_to_and_found_in(old_home: Path) -> None:
    async with await MemoryStore.open(old_home) as store:
        receipt = await store.within(None, NOBODY).remember(NewMemory(text="It is a woodwind."))
        memory = await store.get(receipt.id)
        assert (memory.client, memory.token) == ("a client", "a token")
        found = await store.recall("a woodwind instrument", mode="vector")
        assert len(found.hits) == 2


async def test_a_migration_that_was_cut_off_goes_on(old_home: Path) -> None:
    connection = await lancedb.connect_async(str(old_home / "db"))
    memories = await connection.open_table(schema.MEMORIES)
    await memories.add_columns(schema.origin_fields()[:1])
    async with await MemoryStore.open(old_home) as store:
        assert (await store.stats()).format == schema.FORMAT
        assert len([memory async for memory in store.memories()]) == 1
