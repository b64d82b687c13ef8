"""Re-embedding under live reads and writes: fill a new column, then switch to it in one commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from byheart_store.errors import InvalidInput, ModelMismatch, ModelUnavailable
from byheart_store.models.passages import passage_text
from byheart_store.records import Reindexed
from byheart_store.tables.active_model import ActiveModel, add_column, check_match, column_of
from byheart_store.tables.database import Database
from byheart_store.tables.filters import listed
from byheart_store.tables.maintenance import (
    OLD_VERSIONS_KEPT,
    ROWS_LEFT_UNINDEXED,
    Maintenance,
)
from byheart_store.tables.rows import keyed_vectors
from byheart_store.tables.schema import EMBEDDED_KEY, Description, VectorColumn

if TYPE_CHECKING:
    import pyarrow as pa

    from byheart_store.models.encoder import Encoder

T = TypeVar("T")

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

BUSY = (
    "another process is embedding the store with another model; nothing was changed; "
    "try again when it has finished"
)

FEWEST_ROWS_PER_COMMIT = 1_000
MOST_COMMITS = 5
"""Each commit writes its rows anew and has them indexed again: few large ones are cheaper."""
MOST_ROWS_PER_COMMIT = 25_000
"""So that other writers wait for seconds, however many rows there are."""


class Reindexer:
    """Fills vector columns and switches between them."""

    def __init__(self, database: Database, maintenance: Maintenance, model: ActiveModel) -> None:
        """The reindexer of one open store."""
        self._database = database
        self._maintenance = maintenance
        self._model = model

    async def reindex(self, model: str | None, progress: Progress | None) -> Reindexed:
        """Embed what the model has not embedded yet, make it the active one, compact.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        began = time.perf_counter()
        if model is None:
            encoder = await self._model.wait()
            rows = await self.fill(encoder, column_of(encoder), progress)
        else:
            encoder = await self._model.load(model)
            async with self._database.exclusively("reindex", BUSY):
                rows = await self._switch_or_stay(encoder, progress)
        await self._compact()
        return Reindexed(model=encoder.name, rows=rows, seconds=time.perf_counter() - began)

    async def resume(self) -> None:
        """Finish the switch of a process that died; where its model can't be had, stay.

        Raises:
            StoreBusy: the switch is still under way.
        """
        async with self._database.exclusively("reindex", BUSY):
            column = (await self._database.describe()).pending_column
            if column is None:
                return
            try:
                encoder = await self._model.load(column.model)
                check_match(encoder, column)
            except (ModelUnavailable, ModelMismatch) as error:
                logger.warning(
                    "the switch to %s that was interrupted is given up: %s", column.model, error
                )
                await self._database.write(self._stay)
            else:
                await self._switch(encoder, None)

    async def prepare(self, model: str, progress: Progress | None) -> Reindexed:
        """Embed what the model has not embedded yet; recall goes on as before.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        began = time.perf_counter()
        encoder = await self._model.load(model)
        rows = await self._prepare(encoder, progress)
        return Reindexed(model=encoder.name, rows=rows, seconds=time.perf_counter() - began)

    async def discard(self, model: str) -> None:
        """Drop the vectors of a model.

        Raises:
            InvalidInput: there are none, recall uses them, or would after a rollback.
        """
        await self._database.write(lambda: self._discard(model))

    async def rollback(self, progress: Progress | None) -> str:
        """Switch to the model used before, embed what it lacks, and return its fingerprint.

        Raises:
            InvalidInput: no other model was used before.
            ModelUnavailable: that model can't be found, fetched or loaded; nothing was changed.
            ModelMismatch: its folder holds another model by now; nothing was changed.
        """
        column = (await self._database.describe()).previous_column
        if column is None:
            raise InvalidInput(
                "the store has used no other model before; "
                "to switch to one: byheart reindex --model NAME"
            )
        encoder = await self._model.load(column.model)
        check_match(encoder, column)
        await self._database.write(lambda: self._return_to(column))
        await self.fill(encoder, column, progress)
        return column.fingerprint

    async def _switch_or_stay(self, encoder: Encoder, progress: Progress | None) -> int:
        try:
            return await self._switch(encoder, progress)
        except BaseException:
            await self._database.write(self._stay)
            raise

    async def _switch(self, encoder: Encoder, progress: Progress | None) -> int:
        column = column_of(encoder)
        await self._database.write(lambda: self._add(column))
        await self._database.write(lambda: self._mark(column.column))
        rows = await self.fill(encoder, column, progress)
        await self._maintenance.index()
        while not await self._database.write(lambda: self._switch_to(column)):
            rows += await self.fill(encoder, column, progress)
        return rows

    async def _prepare(self, encoder: Encoder, progress: Progress | None) -> int:
        column = column_of(encoder)
        await self._database.write(lambda: self._add(column))
        return await self.fill(encoder, column, progress)

    async def _add(self, column: VectorColumn) -> None:
        await add_column(self._database, column)
        description = await self._database.describe()
        # What recall serves now or after a rollback changes by a switch alone.
        if column.column not in (description.active, description.previous):
            await self._database.redescribe(description.with_column(column))

    async def _mark(self, pending: str) -> None:
        description = await self._database.describe()
        if description.active != pending:
            await self._database.redescribe(replace(description, pending=pending))

    async def _stay(self) -> None:
        description = await self._database.describe()
        if description.pending is not None:
            await self._database.redescribe(replace(description, pending=None))

    async def _switch_to(self, column: VectorColumn) -> bool:
        """Switch unless another writer has added rows that the column lacks."""
        description = await self._database.describe()
        _still_described(column, description)
        if await self._missing(column):
            return False
        await self._database.redescribe(description.activated(column))
        return True

    async def _return_to(self, column: VectorColumn) -> None:
        description = await self._database.describe()
        await self._database.redescribe(
            description.activated(_still_described(column, description))
        )

    async def _discard(self, model: str) -> None:
        description = await self._database.describe()
        column = description.of_model(model)
        await self._database.redescribe(description.without_column(column))
        await self._database.memories.drop_columns([column.column])

    async def fill(
        self, encoder: Encoder, column: VectorColumn, progress: Progress | None = None
    ) -> int:
        """Embed the rows that have no vector in the column; returns how many there were."""
        total = await self._missing(column)
        done = 0
        most = min(max(FEWEST_ROWS_PER_COMMIT, total // MOST_COMMITS), MOST_ROWS_PER_COMMIT)
        while rows := await self._unembedded(column, most):
            texts = await self._texts(rows)
            encode = partial(encoder.encode_passages, texts, in_background=True)
            vectors = await asyncio.to_thread(encode)
            table = await asyncio.to_thread(keyed_vectors, rows, column.column, vectors)
            await self._database.write(partial(self._embed, column, table))
            done += len(rows)
            if progress is not None:
                progress(done, max(total, done))
        return done

    async def _embed(self, column: VectorColumn, vectors: pa.Table) -> None:
        description = await self._database.describe()
        _still_described(column, description)
        memories = self._database.memories
        update = self._database.update(memories, EMBEDDED_KEY, vectors)
        if column.column == description.active or len(vectors) < ROWS_LEFT_UNINDEXED:
            await update
        else:
            # Whoever writes or recalls next finds the rows indexed again.
            await self._maintenance.tidy(memories, OLD_VERSIONS_KEPT, after=update)

    async def _missing(self, column: VectorColumn) -> int:
        count = self._database.memories.count_rows(f"{column.column} IS NULL")
        return await self._unless_dropped(column, count)

    async def _unembedded(self, column: VectorColumn, most: int) -> list[dict[str, Any]]:
        query = self._database.memories.query().where(f"{column.column} IS NULL")
        names = [*EMBEDDED_KEY, "start", "end", "speaker"]
        rows = await self._unless_dropped(column, query.select(names).limit(most).to_arrow())
        return await asyncio.to_thread(rows.to_pylist)

    async def _unless_dropped(self, column: VectorColumn, asked: Awaitable[T]) -> T:
        """What the table answers; others may drop the column before it does."""
        try:
            return await asked
        except (ValueError, RuntimeError):
            _still_described(column, await self._database.describe())
            raise

    async def _texts(self, rows: list[dict[str, Any]]) -> list[str]:
        """What the encoder reads of each row: its passage of the first row's text."""
        ids = {row["id"] for row in rows}
        query = self._database.memories.query().where(f"passage = 0 AND id IN {listed(ids)}")
        found = await query.select(["id", "text"]).to_arrow()
        return await asyncio.to_thread(_passages, rows, found)

    async def _compact(self) -> None:
        for table in (self._database.memories, self._database.recalls, self._database.labels):
            await self._maintenance.compact(table)


def _passages(rows: Iterable[Mapping[str, Any]], found: pa.Table) -> list[str]:
    ids, whole = (found.column(name).to_pylist() for name in ("id", "text"))
    texts = dict(zip(ids, whole, strict=True))
    return [
        passage_text(row["speaker"], texts.get(row["id"], "")[row["start"] : row["end"]])
        for row in rows
    ]


def _still_described(column: VectorColumn, description: Description) -> VectorColumn:
    """The column as it is described by now."""
    kept = description.column(column.column)
    if kept is None:
        raise InvalidInput(
            f"the vectors of {column.model} were dropped meanwhile; "
            f"embed them anew: byheart reindex --model {column.model}"
        )
    return kept
