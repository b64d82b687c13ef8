"""What a store does by itself and keeps to itself, seen by the tables that it leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from byheart_store import MemoryStore
from byheart_store.tables.database import Database
from byheart_store.tables.schema import Description


@asynccontextmanager
async def database_at(home: Path) -> AsyncIterator[Database]:
    """The tables of a home, by a handle of their own."""
    database = await Database.open(home, None, patience=30.0)
    try:
        yield database
    finally:
        database.close()


async def description_at(home: Path) -> Description:
    """What the store at a home says of itself."""
    async with database_at(home) as database:
        return await database.describe()


async def do_chores(store: MemoryStore) -> None:
    """Load the model and do what others have left undone, to the end."""
    store.load_model()
    await store.chores_done()
