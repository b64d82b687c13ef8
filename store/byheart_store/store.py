"""`MemoryStore`: the only way to the memories, for tools, command line and evaluation alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from byheart_store.engine import Engine
from byheart_store.errors import InvalidInput
from byheart_store.memories import ScopedMemories
from byheart_store.ranking import Tuning
from byheart_store.records import (
    Durability,
    Origin,
    Purged,
    Reindexed,
    StoreModel,
)
from byheart_store.scope import WHOLE_STORE, Scope
from byheart_store.tables.active_model import ModelState, store_models, tune
from byheart_store.tables.engine_errors import with_storage_errors
from byheart_store.upkeep.reindexing import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class MemoryStore(ScopedMemories):
    """A store of memories: what `ScopedMemories` offers, opening and closing, models and purges.

    Any number of processes may have the same home open. Every method that fails for a reason to
    be expected raises a `ByHeartError` whose text says what to do next. What concerns the whole
    store raises AccessDenied in a view of some namespaces.
    """

    def __init__(self, engine: Engine, scope: Scope | None = None) -> None:
        """Not to be called; see `open`, and `within` for a view of a scope."""
        super().__init__(engine, scope or WHOLE_STORE)
        self._is_view = scope is not None

    @classmethod
    async def open(
        cls,
        home: Path,
        *,
        uri: str | None = None,
        model: str | None = None,
        log_recalls: bool = True,
        patience: float = 30.0,
        trial: bool = False,
        durability: Durability = "fsync",
        purge_after_days: float | None = None,
    ) -> MemoryStore:
        """Open or create the store under `home`, or at `uri`. The model is loaded when needed.

        `model` is a folder or a FastEmbed name to insist on; None takes the store's own, and the
        embedded one for a new store. `patience` is the longest wait for other writers in seconds.

        With the `durability` "fsync" a receipt holds through a loss of power, with "os" through a
        crash of any process; at a `uri` durability is the engine's. What was forgotten is purged
        by `load_model` once it is `purge_after_days` old, never where that is None.

        A `trial` of `model` recalls through the vectors that `prepare` made with it, as after a
        switch to it. It logs no recalls, and whatever would write raises StoreUnavailable.

        Raises:
            InvalidInput: a trial of no model.
            StoreUnavailable: the home can't be used, or a newer version of ByHeart wrote it.
            StoreBusy: the store has to be created or migrated and others keep the lock.
        """
        if trial:
            if model is None:
                raise InvalidInput("trial: name the model to be tried")
            return cls(await Engine.open_trial(home, uri=uri, model=model, patience=patience))
        engine = await Engine.open(
            home,
            uri=uri,
            model=model,
            log_recalls=log_recalls,
            patience=patience,
            durability=durability,
            purge_after_days=purge_after_days,
        )
        return cls(engine)

    def within(self, namespaces: Sequence[str] | None, origin: Origin) -> MemoryStore:
        """This store as far as a caller reaches: only these namespaces, all where None.

        What it remembers is stamped with the origin. What lies outside is not there for it, and
        whatever concerns the whole store raises AccessDenied. To close is up to the whole store.

        Raises:
            InvalidInput: no namespace is named, or one can't be.
        """
        return MemoryStore(self._engine, Scope.of(namespaces, origin))

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way and commit what is pending; a view has nothing to close."""
        if not self._is_view:
            await self._engine.close()

    @property
    def model_state(self) -> ModelState:
        """How far the loading of the model has come."""
        return self._engine.model.state

    @property
    def model_problem(self) -> str | None:
        """Why the model can't be had, and what to do next; None while nothing is wrong."""
        failure = self._engine.model.failure
        return str(failure) if failure else None

    def load_model(self) -> None:
        """Begin to load the model, and then to do what others have left undone.

        That is to embed what was stored without a model, to finish a change of models that was
        interrupted, and to purge what was forgotten long ago.
        """
        self._engine.chores.start()

    async def chores_done(self) -> None:
        """Wait for what `load_model` has begun."""
        await self._engine.chores.finish()

    @with_storage_errors
    async def model_ready(self) -> None:
        """Wait for the model.

        Raises:
            ModelUnavailable: it can't be found, fetched or loaded.
            ModelMismatch: the store holds another model's vectors.
        """
        await self._engine.model.wait()

    @with_storage_errors
    async def tuning(self) -> Tuning | None:
        """What was fitted for this store's active model, or came with it; None for the defaults."""
        column = (await self._engine.database.describe()).active_column
        return column.tuning if column else None

    @with_storage_errors
    async def tune(self, tuning: Tuning | None, model: str | None = None) -> None:
        """Rank with these parameters from now on, in every process.

        None takes back what the active model's folder brings, or else the defaults.

        They belong to the active model, or to a prepared one that is named.

        Raises:
            ModelUnavailable: the store has no active model to fit parameters to.
            InvalidInput: the store holds no vectors of the model named.
        """
        self._scope.check_whole("tuning")
        if model is None:
            tuning = tuning or (await self._engine.model.wait()).tuning
        await tune(self._engine.database, tuning, model)

    @with_storage_errors
    async def purge(self) -> Purged:
        """Erase every trace of what was forgotten: from the log, old files, indexes and caches.

        Raises:
            StoreBusy: other writers kept the lock for too long; nothing was purged.
        """
        self._scope.check_whole("a purge")
        return await self._engine.eraser.purge()

    @with_storage_errors
    async def reindex(
        self, model: str | None = None, progress: Progress | None = None
    ) -> Reindexed:
        """Embed all memories with another model and switch to it, or only fill what is missing.

        Recall and remember go on meanwhile. `progress` gets rows done and rows in all.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        self._scope.check_whole("reindex")
        return await self._engine.reindexer.reindex(model, progress)

    @with_storage_errors
    async def prepare(self, model: str, progress: Progress | None = None) -> Reindexed:
        """Embed all memories with another model without a switch: for a trial, or a quick one.

        The tuning that its folder brings is taken over, unless the model is the active or the
        previous one: what these serve changes by `reindex` or `tune` alone.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        self._scope.check_whole("another model")
        return await self._engine.reindexer.prepare(model, progress)

    @with_storage_errors
    async def discard(self, model: str) -> None:
        """Drop the vectors of a model: its folder, its name or its fingerprint.

        Raises:
            InvalidInput: there are none, or the model is the active or the previous one.
        """
        self._scope.check_whole("a model")
        await self._engine.reindexer.discard(model)

    @with_storage_errors
    async def rollback(self, progress: Progress | None = None) -> StoreModel:
        """Switch back to the model used before, at once; then embed what it has not seen.

        Raises:
            InvalidInput: no other model was used before.
            ModelUnavailable, ModelMismatch: that model is gone or another; nothing was changed.
        """
        self._scope.check_whole("a rollback")
        fingerprint = await self._engine.reindexer.rollback(progress)
        models = await store_models(self._engine.database)
        return next(one for one in models if one.fingerprint == fingerprint)

    @with_storage_errors
    async def models(self) -> list[StoreModel]:
        """Every model that the store holds vectors of: the active, the previous, the others."""
        self._scope.check_whole("the list of models")
        return await store_models(self._engine.database)

    @with_storage_errors
    async def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """n ids -> (n, d) unit rows by the active model, each of a memory's first passage.

        Zeros stand where a memory is not embedded yet or not known; d is 0 without a model.
        """
        self._scope.check_whole("vectors")
        return await self._engine.recaller.vectors(ids)
