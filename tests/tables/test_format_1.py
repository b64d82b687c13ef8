"""A store as format 1 wrote it: two text columns, of which the second held the turn before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from lancedb.index import FTS

from byheart_store import Filter, MemoryStore
from byheart_store.tables.schema import FORMAT

MOMENT = pa.timestamp("us", tz="UTC")
DESCRIPTION = json.dumps({"format": 1, "active": None, "columns": []})
MEMORIES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"byheart:store": DESCRIPTION}),
        *(pa.field(name, pa.int32(), nullable=False) for name in ("passage", "start", "end")),
        pa.field("text", pa.string()),
        *(pa.field(name, pa.string(), nullable=False) for name in ("searched", "context")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("digest", "namespace")),
        pa.field("session", pa.string()),
        pa.field("turn", pa.int32()),
        pa.field("speaker", pa.string()),
        pa.field("at", MOMENT),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string()),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("metadata_terms", pa.list_(pa.string()), nullable=False),
        pa.field("created", MOMENT, nullable=False),
        *(pa.field(name, pa.string()) for name in ("replaces", "replaced_by")),
        pa.field("replaced_at", MOMENT),
    ]
)
RECALLS = pa.schema([pa.field("recall_id", pa.string()), pa.field("query", pa.string())])


def row(number: int, speaker: str, text: str, **others: Any) -> dict[str, Any]:
    said = f"{speaker}: {text}"
    return {
        "id": f"m{number}",
        "passage": 0,
        "start": 0,
        "end": len(text),
        "text": text,
        "searched": said,
        "context": said,
        "digest": f"d{number}",
        "namespace": "default",
        "session": "dinner",
        "turn": number,
        "speaker": speaker,
        "tags": [],
        "metadata": "{}",
        "metadata_terms": [],
        "created": datetime(2026, 1, 1, 12, number, tzinfo=UTC),
    } | others


@pytest.fixture
async def old_home(home: Path) -> Path:
    rows = [
        row(0, "Ann", "Which restaurant did you book for Saturday?"),
        row(1, "Bob", "Luigi's, at eight."),
        row(2, "Ann", "My sister plays the bassoon.", session=None, turn=None),
    ]
    connection = await lancedb.connect_async(home / "db")
    memories = await connection.create_table("memories", schema=MEMORIES)
    await memories.add(pa.Table.from_pylist(rows, schema=MEMORIES))
    for column in ("searched", "context"):
        await memories.create_index(column, config=FTS(base_tokenizer="icu/split"))
    return home


async def test_nothing_of_it_is_lost(old_home: Path) -> None:
    async with await MemoryStore.open(old_home) as store:
        kept = [memory async for memory in store.memories()]
        assert {memory.id for memory in kept} == {"m0", "m1", "m2"}
        assert (await store.get("m1")).text == "Luigi's, at eight."
        assert (await store.stats()).format == FORMAT


async def test_its_turns_are_found_by_the_turn_before(old_home: Path) -> None:
    async with await MemoryStore.open(old_home) as store:
        hits = (await store.recall("restaurant for Saturday", mode="text")).hits
        assert [hit.id for hit in hits] == ["m0", "m1"]


async def test_its_memories_get_vectors(old_home: Path) -> None:
    async with await MemoryStore.open(old_home) as store:
        await store.reindex()
        hits = (await store.recall("a woodwind instrument", mode="vector")).hits
        assert hits[0].id == "m2"


async def test_its_sessions_go_on(old_home: Path) -> None:
    async with await MemoryStore.open(old_home) as store:
        found = await store.recall("Luigi", where=Filter(session="dinner"), mode="text")
        assert [hit.memory.turn for hit in found.hits] == [1]
