"""The parts of one open store: made together, shared by all who see the store, closed together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from byheart_store.recall.journal import Journal
from byheart_store.recall.recaller import Recaller
from byheart_store.records import Durability
from byheart_store.remember.group_commit import GroupCommit
from byheart_store.remember.writer import Writer
from byheart_store.tables.active_model import ActiveModel
from byheart_store.tables.database import Database
from byheart_store.tables.maintenance import Maintenance
from byheart_store.tables.reading import Reader
from byheart_store.upkeep.chores import Chores
from byheart_store.upkeep.erasure import Eraser
from byheart_store.upkeep.reindexing import Reindexer


class Engine:
    """Everything that a `MemoryStore` and its views work with."""

    def __init__(self, database: Database, model: str | None, *, log_recalls: bool) -> None:
        """Not to be called; see `open`."""
        self.database = database
        self.log_recalls = log_recalls
        self.maintenance = Maintenance(database)
        self.model = ActiveModel(database, model)
        self.reader = Reader(database)
        self.writer = Writer(database, self.model)
        self.group_commit = GroupCommit(self.writer)
        self.recaller = Recaller(database, self.model)
        self.journal = Journal(database)
        self.reindexer = Reindexer(database, self.maintenance, self.model)
        self.eraser = Eraser(database, self.maintenance, self.journal)
        self.chores = Chores(database, self.model, self.reindexer, self.eraser)

    @classmethod
    async def open(
        cls,
        home: Path,
        *,
        uri: str | None,
        model: str | None,
        log_recalls: bool,
        patience: float,
        durability: Durability,
        purge_after_days: float | None,
    ) -> Engine:
        """Open or create the tables, as `MemoryStore.open` says."""
        database = await Database.open(home, uri, patience, durability)
        engine = cls(database, model, log_recalls=log_recalls)
        if purge_after_days is not None:
            engine.chores.purge_after = timedelta(days=purge_after_days)
        return engine

    @classmethod
    async def open_trial(
        cls, home: Path, *, uri: str | None, model: str, patience: float
    ) -> Engine:
        """Open the tables to be read as if this model were the active one."""
        database = await Database.open(home, uri, patience)
        database.try_out(model)
        return cls(database, None, log_recalls=False)

    async def close(self) -> None:
        """Finish what is under way and commit what is pending."""
        await self.chores.close()
        await self.model.close()
        await self.journal.close()
        await self.maintenance.close()
        self.database.close()
