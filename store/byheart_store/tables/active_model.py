"""The encoder of an open store: loaded in the background, never another than the store's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from byheart_store.errors import ByHeartError, ModelMismatch, ModelUnavailable
from byheart_store.ranking.tuning import Tuning
from byheart_store.records import StoreModel
from byheart_store.tables.database import Database
from byheart_store.tables.schema import Description, VectorColumn, vector_column, vector_field

if TYPE_CHECKING:
    from byheart_store.models.encoder import Encoder

ModelState = Literal["idle", "loading", "ready", "unavailable"]


class ActiveModel:
    """Serves the encoder whose vectors the store holds, and follows a switch by any process."""

    def __init__(self, database: Database, requested: str | None) -> None:
        """`requested` names a model to insist on; None takes the store's own."""
        self._database = database
        self._requested = requested
        self._encoder: Encoder | None = None
        self._former: Encoder | None = None
        self._failure: ByHeartError | None = None
        self._wanted: VectorColumn | None = None
        self._loading: asyncio.Task[None] | None = None

    @property
    def state(self) -> ModelState:
        """How far loading has come."""
        if self._loading is not None:
            return "loading"
        if self._failure is not None:
            return "unavailable"
        return "idle" if self._encoder is None else "ready"

    @property
    def failure(self) -> ByHeartError | None:
        """Why the last loading failed."""
        return self._failure

    def start(self) -> None:
        """Begin to load unless loaded or loading; after a failure, try again."""
        if self._loading is None and (self._encoder is None or self._failure is not None):
            self._reload()

    def _reload(self) -> None:
        self._encoder, self._failure = None, None
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            self._encoder = await self._loaded()
        except ByHeartError as error:
            self._failure = error
        finally:
            self._loading = None

    async def close(self) -> None:
        """Wait for a loading that is under way."""
        if self._loading is not None:
            await asyncio.wait([self._loading])

    async def wait(self) -> Encoder:
        """The store's encoder, waited for.

        Raises:
            ModelUnavailable: it can't be found, fetched or loaded.
            ModelMismatch: the requested model is not the one whose vectors the store holds.
        """
        return await self.wait_for(await self._database.describe())

    async def wait_for(self, description: Description) -> Encoder:
        """As `wait`, for a description just read."""
        self.follow(description)
        self.start()
        while self._loading is not None:
            await asyncio.wait([self._loading])
        if self._failure is not None:
            raise self._failure
        if self._encoder is None:
            raise ModelUnavailable("the model's loading was interrupted; try again")
        return self._encoder

    def at_hand(self, description: Description) -> Encoder | None:
        """The encoder of the active column if it is loaded; otherwise loading begins."""
        self.follow(description)
        if self._failure is None:
            self.start()
        return self._encoder

    def follow(self, description: Description) -> None:
        """Load anew when another process has switched the store to another model."""
        column = description.active_column
        if column is None or self._loading is not None:
            return
        if self._encoder is not None and self._encoder.fingerprint != column.fingerprint:
            self._requested = None
            self._switch(column)
        elif self._failure is not None and self._wanted != column:
            self._reload()

    def _switch(self, column: VectorColumn) -> None:
        """Serve another model; after a rollback it is still at hand."""
        self._former, former = self._encoder, self._former
        if former is not None and former.fingerprint == column.fingerprint:
            self._encoder, self._wanted = former, column
        else:
            self._reload()

    async def _loaded(self) -> Encoder:
        column = self._wanted = (await self._database.describe()).active_column
        encoder = await self.load(self._requested or (column.model if column else None))
        if column is None:
            column = await self._database.write(lambda: self._adopt(encoder))
        check_match(encoder, column, asked=self._requested is not None)
        return encoder

    async def load(self, model: str | None) -> Encoder:
        """An encoder by name, without a look at the store's vectors.

        Raises:
            ModelUnavailable: it can't be found, fetched or loaded.
        """
        from byheart_store.models.loading import load_encoder

        return await asyncio.to_thread(load_encoder, model, cache_dir=self._database.home.downloads)

    async def _adopt(self, encoder: Encoder) -> VectorColumn:
        description = await self._database.describe()
        if description.active_column is not None:
            return description.active_column
        column = column_of(encoder)
        await add_column(self._database, column)
        await self._database.redescribe(description.activated(column))
        return column


def column_of(encoder: Encoder) -> VectorColumn:
    """The vector column that holds what this encoder makes, with the tuning that it brings."""
    return vector_column(encoder.name, encoder.fingerprint, encoder.dimension, encoder.tuning)


async def add_column(database: Database, column: VectorColumn) -> None:
    """Add an empty vector column unless it is there. To be called inside `Database.write`."""
    if column.column not in (await database.memories.schema()).names:
        # A database service takes SQL alone.
        sql = {column.column: f"arrow_cast(NULL, 'FixedSizeList({column.dimension}, Float32)')"}
        await database.memories.add_columns(
            sql if database.location.is_service else vector_field(column)
        )


async def store_models(database: Database) -> list[StoreModel]:
    """Every model that the store holds vectors of: the active one, the previous, the others."""
    description = await database.describe()
    passages = await database.memories.count_rows()
    models = [
        StoreModel(
            model=column.model,
            fingerprint=column.fingerprint,
            dimension=column.dimension,
            active=column.column == description.active,
            previous=column.column == description.previous,
            embedded=await database.memories.count_rows(f"{column.column} IS NOT NULL"),
            passages=passages,
            tuned=column.tuning is not None,
        )
        for column in description.columns
    ]
    return sorted(models, key=lambda one: (not one.active, not one.previous))


async def tune(database: Database, tuning: Tuning | None, model: str | None) -> None:
    """Rank with these parameters; they belong to the active model, or to the one named.

    Raises:
        InvalidInput: the store holds no vectors of the model named.
    """

    async def change() -> None:
        description = await database.describe()
        column = description.active if model is None else description.of_model(model).column
        if column is not None:
            await database.redescribe(description.tuned(column, tuning))

    await database.write(change)


def check_match(encoder: Encoder, column: VectorColumn, *, asked: bool = False) -> None:
    """Raises ModelMismatch unless the column holds this encoder's vectors."""
    if encoder.fingerprint == column.fingerprint:
        return
    if asked:
        raise ModelMismatch(
            f"the store holds vectors of {column.model}, not of {encoder.name}; leave --model out, "
            f"or switch the store: byheart reindex --model {encoder.name}"
        )
    raise ModelMismatch(
        f"the model {encoder.name} is not the one that made the store's vectors any more; "
        f"embed them anew: byheart reindex --model {encoder.name}"
    )
