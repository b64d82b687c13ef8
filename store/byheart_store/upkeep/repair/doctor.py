"""Finding what is wrong with a store, even one that does not open, and mending it.

What is damaged or left over is moved to `set-aside`, never deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ByHeartError, StoreUnavailable
from byheart_store.home import Home
from byheart_store.tables import schema
from byheart_store.tables.active_model import ActiveModel
from byheart_store.tables.database import Database
from byheart_store.tables.engine_errors import storage_errors
from byheart_store.tables.lock import WriteLock
from byheart_store.tables.maintenance import Maintenance
from byheart_store.tables.rows import keyed_vectors
from byheart_store.tables.schema import VectorColumn
from byheart_store.upkeep.damage import Seen
from byheart_store.upkeep.reindexing import Reindexer
from byheart_store.upkeep.repair.examination import Examination
from byheart_store.upkeep.repair.fidelity import Fidelity
from byheart_store.upkeep.repair.findings import Examined, Finding

if TYPE_CHECKING:
    from byheart_store.models.encoder import Encoder

Progress = Callable[[int, int], None]

SAMPLE = 200
"""Rows that are embedded again and compared, unless all of them are."""


class Doctor:
    """Examines and mends the store under a home."""

    def __init__(
        self,
        home: Path,
        *,
        thorough: bool = False,
        sample: int = SAMPLE,
        patience: float = 30.0,
        progress: Progress | None = None,
    ) -> None:
        """`sample` rows are embedded again and compared with what is stored, `thorough` all.

        `progress` gets rows embedded and rows in all; `patience` is the longest wait for other
        writers in seconds.
        """
        self._home = Home(home.expanduser().resolve())
        self._sample = None if thorough else sample
        self._patience = patience
        self._progress = progress
        self._seen = Seen()

    async def examine(self) -> Examined:
        """Find what is wrong and change nothing.

        Raises:
            StoreUnavailable: there is no store at the home.
            StoreBusy: another process kept the write lock for too long.
        """
        return await self._visit(repair=False)

    async def mend(self) -> Examined:
        """Find what is wrong and mend it.

        Raises:
            StoreUnavailable: there is no store at the home, or the disk refused.
            StoreBusy: another process kept the write lock for too long.
        """
        return await self._visit(repair=True)

    async def _visit(self, *, repair: bool) -> Examined:
        if not self._home.tables.is_dir():
            raise StoreUnavailable(
                f"there is no store at {self._home.folder}; name the right folder: --home DIR"
            )
        with storage_errors(str(self._home.tables)):
            examination = Examination(self._home, self._seen, repair=repair)
            async with self._locked(repair=repair):
                await examination.tables()
            if examination.is_foreign:
                return examination.found
            await self._after(examination, repair=repair)
        return examination.found

    @asynccontextmanager
    async def _locked(self, *, repair: bool) -> AsyncIterator[None]:
        lock = self._home.lock("write")
        if not repair and not lock.exists():  # to make one would be a change
            yield
            return
        async with WriteLock(lock, self._patience).held():
            yield

    async def _after(self, examination: Examination, *, repair: bool) -> None:
        """What needs a model, or a store that opens: to be done without the lock."""
        interrupted = examination.interrupted_switch()
        wrong = await self._compared(examination)
        if not repair:
            return
        if not (interrupted or wrong or examination.to_be_embedded or examination.to_be_opened):
            return
        database = await Database.open(self._home.folder, None, self._patience)
        maintenance, model = Maintenance(database), ActiveModel(database, None)
        reindexer = Reindexer(database, maintenance, model)
        try:
            await self._finish(database, reindexer, examination, interrupted, wrong)
        finally:
            await model.close()
            await maintenance.close()
            database.close()

    async def _finish(
        self,
        database: Database,
        reindexer: Reindexer,
        examination: Examination,
        interrupted: Finding | None,
        wrong: _Wrong | None,
    ) -> None:
        for finding in examination.to_be_opened:
            finding.mended = True
        if interrupted is not None:
            await reindexer.resume()
            interrupted.mended = True
        if wrong is not None:
            await database.write(lambda: wrong.put_right(database))
            wrong.finding.mended = True
        column = (await database.describe()).active_column
        if examination.to_be_embedded and column is not None:
            encoder = await self._encoder(column, examination)
            if encoder is not None:
                await reindexer.fill(encoder, column, self._progress)

    async def _compared(self, examination: Examination) -> _Wrong | None:
        """The vectors of the active model that it would make otherwise."""
        description, rows = examination.description, examination.rows
        column = description.active_column if description else None
        if column is None or rows is None or column.column not in rows.column_names:
            return None
        encoder = await self._encoder(column, examination)
        if encoder is None:
            return None
        fidelity = Fidelity(rows, column.column, encoder, self._progress)
        positions = await asyncio.to_thread(fidelity.wrong, self._sample)
        if not positions:
            return None
        finding = examination.found.add(
            "vector",
            schema.MEMORIES,
            f"{len(positions):,} vectors are not what {column.model} makes of their texts: "
            "recall misjudges them",
            "they are embedded anew",
        )
        return _Wrong(finding, column, *fidelity.mended(positions))

    async def _encoder(self, column: VectorColumn, examination: Examination) -> Encoder | None:
        from byheart_store.models.loading import load_encoder

        cache = self._home.downloads
        try:
            encoder = await asyncio.to_thread(load_encoder, column.model, cache_dir=cache)
        except ByHeartError as error:
            examination.add_once("vector", f"vectors can't be checked: {error}", "mend that first")
            return None
        if encoder.fingerprint != column.fingerprint:
            examination.add_once(
                "vector",
                f"the model {column.model} is not the one that made the vectors any more",
                f"embed them anew: byheart reindex --model {column.model}",
            )
            return None
        return encoder


class _Wrong:
    """Wrong vectors, and those that belong in their places."""

    def __init__(self, finding: Finding, column: VectorColumn, rows: Any, vectors: Any) -> None:
        self.finding = finding
        self._name = column.column
        self._right = keyed_vectors(rows, column.column, vectors)

    async def put_right(self, database: Database) -> None:
        await database.update(database.memories, schema.EMBEDDED_KEY, self._right)
