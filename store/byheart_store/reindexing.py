"""Re-embedding under live reads and writes: fill a new column, then switch to it in one commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from byheart_store.database import Database
from byheart_store.filters import listed
from byheart_store.models import ActiveModel, add_column, column_of
from byheart_store.records import Reindexed
from byheart_store.rows import keyed_vectors, said
from byheart_store.schema import EMBEDDED_KEY, VectorColumn

if TYPE_CHECKING:
    from byheart_store.encoder import Encoder

Progress = Callable[[int, int], None]

FEWEST_ROWS_PER_COMMIT = 1_000
MOST_COMMITS = 10
"""Each commit rewrites the column of the fragments it touches, so few large ones are cheaper."""


class Reindexer:
    """Fills vector columns and switches between them."""

    def __init__(self, database: Database, model: ActiveModel) -> None:
        """The reindexer of one open store."""
        self._database = database
        self._model = model

    async def reindex(self, model: str | None, progress: Progress | None) -> Reindexed:
        """Embed what the model has not embedded yet, make it the active one, compact.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        began = time.perf_counter()
        encoder = await (self._model.wait() if model is None else self._model.load(model))
        column = column_of(encoder)
        await self._database.write(lambda: self._prepare(column))
        rows = await self.fill(encoder, column, progress)
        while not await self._database.write(lambda: self._activate(column)):
            rows += await self.fill(encoder, column, progress)
        await self._compact()
        return Reindexed(model=encoder.name, rows=rows, seconds=time.perf_counter() - began)

    async def _prepare(self, column: VectorColumn) -> None:
        await add_column(self._database, column)
        description = await self._database.describe()
        await self._database.redescribe(description.with_column(column))

    async def _activate(self, column: VectorColumn) -> bool:
        """Switch unless another writer has added rows that the column lacks."""
        if await self._missing(column):
            return False
        description = await self._database.describe()
        if description.active != column.column:
            await self._database.redescribe(description.activated(column))
        return True

    async def fill(
        self, encoder: Encoder, column: VectorColumn, progress: Progress | None = None
    ) -> int:
        """Embed the rows that have no vector in the column; returns how many there were."""
        total = await self._missing(column)
        done = 0
        most = max(FEWEST_ROWS_PER_COMMIT, total // MOST_COMMITS)
        while rows := await self._unembedded(column, most):
            texts = await self._texts(rows)
            vectors = await asyncio.to_thread(encoder.encode_passages, texts)
            table = keyed_vectors(rows, column.column, vectors)
            update = partial(self._database.update, self._database.memories, EMBEDDED_KEY, table)
            await self._database.write(update)
            done += len(rows)
            if progress is not None:
                progress(done, max(total, done))
        return done

    async def _missing(self, column: VectorColumn) -> int:
        return await self._database.memories.count_rows(f"{column.column} IS NULL")

    async def _unembedded(self, column: VectorColumn, most: int) -> list[dict[str, Any]]:
        query = self._database.memories.query().where(f"{column.column} IS NULL")
        names = [*EMBEDDED_KEY, "start", "end", "speaker"]
        rows: list[dict[str, Any]] = await query.select(names).limit(most).to_list()
        return rows

    async def _texts(self, rows: list[dict[str, Any]]) -> list[str]:
        """What the encoder reads of each row: its passage of the first row's text."""
        ids = {row["id"] for row in rows}
        query = self._database.memories.query().where(f"passage = 0 AND id IN {listed(ids)}")
        found = await query.select(["id", "text"]).to_list()
        texts = {row["id"]: row["text"] for row in found}
        return [
            said(row["speaker"], texts.get(row["id"], "")[row["start"] : row["end"]])
            for row in rows
        ]

    async def _compact(self) -> None:
        for table in (self._database.memories, self._database.recalls, self._database.labels):
            await self._database.compact(table)
