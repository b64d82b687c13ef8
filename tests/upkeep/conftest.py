"""A small store with something of everything, and ways to damage it."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path

import lancedb
import pytest
from lancedb.table import AsyncTable

from byheart_store import MemoryStore, NewMemory
from byheart_store.tables import schema
from byheart_store.tables.lance_manifest import read_manifest

LONG = "The harbour was closed for repairs. " * 120


@pytest.fixture(scope="session")
def _sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sound") / "home"
    asyncio.run(_fill(home))
    return home


async def _fill(home: Path) -> None:
    async with await MemoryStore.open(home, durability="os") as store:
        await store.model_ready()
        await store.remember_many(
            [
                NewMemory(text="Biscuit's vet is Dr. Keller.", id="vet", session="pets"),
                NewMemory(text="He is on holiday in July.", id="july", session="pets"),
                NewMemory(text=LONG, id="long"),
            ]
        )
        await store.remember(NewMemory(text="Lena moved to Bremen.", id="lena", tags=("home",)))
        recall = await store.recall("Who is the vet?")
        await store.feedback(recall.recall_id, ["vet"])


@pytest.fixture
def sound(_sound: Path, home: Path) -> Path:
    """The home of a store with four memories, one of several passages, a recall and a label."""
    return shutil.copytree(_sound, home)


def table_folder(home: Path, name: str = schema.MEMORIES) -> Path:
    return home / "db" / f"{name}.lance"


def latest_manifest(home: Path, name: str = schema.MEMORIES) -> Path:
    return min((table_folder(home, name) / "_versions").glob("*.manifest"))


def data_files(home: Path, name: str = schema.MEMORIES) -> list[Path]:
    """The files of the latest version, oldest rows first."""
    fragments = read_manifest(latest_manifest(home, name)).fragments
    return [table_folder(home, name) / file.name for part in fragments for file in part.files]


async def opened(home: Path, name: str = schema.MEMORIES) -> AsyncTable:
    connection = await lancedb.connect_async(
        str(home / "db"), read_consistency_interval=timedelta(0)
    )
    return await connection.open_table(name)


def every_byte(home: Path) -> dict[str, str]:
    """The digest of each file below the home."""
    return {
        str(path): blake2b(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file()
    }


async def texts(home: Path) -> dict[str, str]:
    """The memories of a store by their ids."""
    async with await MemoryStore.open(home, durability="os") as store:
        return {memory.id: memory.text async for memory in store.memories()}
