"""`MemoryStore`: the only way to the memories, for tools, command line and evaluation alike."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from copy import copy
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from byheart_store.errors import ByHeartError, InvalidInput, UnknownMemory
from byheart_store.inputs import checked_name
from byheart_store.ranking.evidence import Evidence
from byheart_store.ranking.tuning import Tuning
from byheart_store.recall.journal import Journal
from byheart_store.recall.recaller import Question, Recaller
from byheart_store.records import (
    ADMIT_ALL,
    DEFAULT_LIMIT,
    WITH_REPLACED,
    Durability,
    FeedbackCounts,
    Filter,
    Forgotten,
    Label,
    LoggedRecall,
    Memory,
    Mode,
    NewMemory,
    Origin,
    Purged,
    Recall,
    Receipt,
    Reindexed,
    StoreModel,
    StoreStats,
    now,
)
from byheart_store.remember.batching import GroupCommit
from byheart_store.remember.writer import Writer
from byheart_store.scope import WHOLE_STORE, Scope
from byheart_store.tables import schema
from byheart_store.tables.active_model import ActiveModel, ModelState, store_models
from byheart_store.tables.database import Database, storage_errors
from byheart_store.tables.filters import listed, quoted, to_sql
from byheart_store.tables.rows import memory_of
from byheart_store.upkeep.erasure import Eraser
from byheart_store.upkeep.reindexing import Progress, Reindexer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS_PER_PAGE = 1_000
SECONDS_BETWEEN_PURGES = 3_600.0

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def _told_clearly(
    method: Callable[Concatenate[MemoryStore, P], Awaitable[T]],
) -> Callable[Concatenate[MemoryStore, P], Coroutine[Any, Any, T]]:
    """What the disk or the engine says of a failed access becomes a `StoreUnavailable`."""

    @wraps(method)
    async def access(store: MemoryStore, /, *args: P.args, **named: P.kwargs) -> T:
        with storage_errors(store.location):
            return await method(store, *args, **named)

    return access


class MemoryStore:
    """A store of memories: remember, recall, feedback, forget, reindex.

    Any number of processes may have the same home open. Every method that fails for a reason to
    be expected raises a `ByHeartError` whose text says what to do next.
    """

    def __init__(self, database: Database, model: str | None, *, log_recalls: bool) -> None:
        """Not to be called; see `open`."""
        self._database = database
        self._scope = WHOLE_STORE
        self._log_recalls = log_recalls
        self._model = ActiveModel(database, model)
        self._writer = Writer(database, self._model)
        self._group_commit = GroupCommit(self._writer)
        self._reindexer = Reindexer(database, self._model)
        self._journal = Journal(database)
        self._recaller = Recaller(database, self._model)
        self._eraser = Eraser(database, self._journal)
        self._purge_after: timedelta | None = None
        self._chores: asyncio.Task[None] | None = None
        self._purging: asyncio.Task[None] | None = None

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
        if trial and model is None:
            raise InvalidInput("trial: name the model to be tried")
        database = await Database.open(home, uri, patience, durability)
        if not trial or model is None:
            store = cls(database, model, log_recalls=log_recalls)
            if purge_after_days is not None:
                store._purge_after = timedelta(days=purge_after_days)
            return store
        database.try_out(model)
        return cls(database, None, log_recalls=False)

    def within(self, namespaces: Sequence[str] | None, origin: Origin) -> MemoryStore:
        """This store as far as a caller reaches: only these namespaces, all where None.

        What it remembers is stamped with the origin. What lies outside is not there for it, and
        whatever concerns the whole store raises AccessDenied. To close is up to the whole store.

        Raises:
            InvalidInput: no namespace is named, or one can't be.
        """
        view = copy(self)
        view._scope = Scope.of(namespaces, origin)
        return view

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
        """Finish what is under way and commit what is pending."""
        tasks = [task for task in (self._chores, self._purging) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._model.close()
        await self._journal.close()
        await self._database.close()

    @property
    def location(self) -> str:
        """The folder or URI of the database."""
        return self._database.location.address

    @property
    def model_state(self) -> ModelState:
        """How far the loading of the model has come."""
        return self._model.state

    @property
    def model_problem(self) -> str | None:
        """Why the model can't be had, and what to do next; None while nothing is wrong."""
        return str(self._model.failure) if self._model.failure else None

    def load_model(self) -> None:
        """Begin to load the model, and then to do what others have left undone.

        That is to embed what was stored without a model, to finish a change of models that was
        interrupted, and to purge what was forgotten long ago.
        """
        if self._chores is None or self._chores.done():
            self._chores = asyncio.create_task(self._do_chores())
        if self._purging is None and self._purge_after is not None:
            self._purging = asyncio.create_task(self._purge_in_time())

    async def _do_chores(self) -> None:
        for chore in (self._fill_missing, self._reindexer.resume, self._purge_when_due):
            await self._do(chore)

    async def _do(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            with storage_errors(self.location):
                await chore()
        except ByHeartError as error:
            logger.info("put off: %s", error)  # recall and doctor say what is to be done

    async def _purge_in_time(self) -> None:
        """A server may run for longer than what was forgotten may stay."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_PURGES)
            await self._do(self._purge_when_due)

    async def _fill_missing(self) -> None:
        encoder = await self._model.wait()
        column = (await self._database.describe()).active_column
        if column is not None and column.fingerprint == encoder.fingerprint:
            await self._reindexer.fill(encoder, column)

    async def _purge_when_due(self) -> None:
        since = (await self._database.describe()).forgotten_since
        if (
            since is not None
            and self._purge_after is not None
            and now() - since >= self._purge_after
        ):
            await self._eraser.purge()

    @_told_clearly
    async def model_ready(self) -> None:
        """Wait for the model.

        Raises:
            ModelUnavailable: it can't be found, fetched or loaded.
            ModelMismatch: the store holds another model's vectors.
        """
        await self._model.wait()

    @_told_clearly
    async def remember(self, memory: NewMemory) -> Receipt:
        """Store one memory; when this returns, it is committed and every process finds it.

        Memories that are told at the same time share a commit.

        Without a model it is stored all the same, found by its words, and embedded later.

        Raises:
            InvalidInput: its id is taken, or the memory to be replaced was replaced already.
            UnknownMemory: the memory to be replaced is not there.
            ModelMismatch, StoreBusy, StoreUnavailable: nothing was stored.
        """
        stamped = self._scope.stamped(memory)
        await self._check_replaced([stamped])
        return await self._group_commit.remember(stamped)

    @_told_clearly
    async def remember_many(
        self, memories: Sequence[NewMemory], progress: Callable[[int], None] | None = None
    ) -> list[Receipt]:
        """Store memories in order, a few hundred per commit; `progress` gets how many were done.

        Raises:
            As `remember`; what was committed before stays, and storing it again is harmless.
        """
        stamped = [self._scope.stamped(memory) for memory in memories]
        await self._check_replaced(stamped)
        return await self._writer.remember_many(stamped, progress)

    async def _check_replaced(self, memories: Sequence[NewMemory]) -> None:
        """What is to be replaced must lie within reach, as if nothing else were there."""
        if self._scope.is_whole:
            return
        wanted = {memory.replaces for memory in memories if memory.replaces is not None}
        for name in wanted:
            if not await self._admitted(f"id = {quoted(name)}"):
                raise UnknownMemory(
                    f"replaces: no memory has the id {name!r}; take the id from a recall"
                )

    async def _admitted(self, predicate: str) -> list[str]:
        """The ids within reach that a predicate admits, replaced memories included."""
        return await self._eraser.matching(f"({predicate}) AND {self._within_scope()}")

    def _within_scope(self) -> str:
        return to_sql(self._scope.narrowed(WITH_REPLACED))

    @_told_clearly
    async def recall(
        self,
        query: str,
        *,
        limit: int = DEFAULT_LIMIT,
        where: Filter = ADMIT_ALL,
        mode: Mode = "hybrid",
        max_tokens: int | None = None,
        prefer_recent: bool = False,
        wait_for_model: bool = True,
        log: bool = True,
    ) -> Recall:
        """Find the memories that answer a query, best first.

        `max_tokens` bounds the text of all hits together; `prefer_recent` lets what happened
        lately win among near equals. Without `wait_for_model`, or where the
        model can't be had, words alone are searched, and the answer says so.

        Raises:
            InvalidInput: an argument can't be accepted.
            ModelUnavailable: `mode` is "vector" and there is no model.
            ModelMismatch: a model was insisted on that is not the store's.
            StoreUnavailable: the store can't be read.
        """
        question = Question(
            query=query,
            limit=limit,
            where=self._scope.narrowed(where),
            mode=mode,
            max_tokens=max_tokens,
            prefer_recent=prefer_recent,
        )
        recall, logged = await self._recaller.recall(question, wait_for_model=wait_for_model)
        if log and self._log_recalls:
            self._journal.record(logged)
        return recall

    @_told_clearly
    async def evidence(
        self, query: str, where: Filter = ADMIT_ALL
    ) -> tuple[Evidence, tuple[str, ...]]:
        """What the legs say of each memory before a hybrid recall ranks them, and their ids.

        Raises:
            InvalidInput: an argument can't be accepted.
            ModelUnavailable, ModelMismatch: there is no model to ask with.
        """
        question = Question(query=query, where=self._scope.narrowed(where))
        return await self._recaller.evidence(question)

    @_told_clearly
    async def tuning(self) -> Tuning | None:
        """What was fitted for this store's active model, or came with it; None for the defaults."""
        column = (await self._database.describe()).active_column
        return column.tuning if column else None

    @_told_clearly
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
            encoder = await self._model.wait()
            tuning = tuning or encoder.tuning
        await self._database.write(lambda: self._tune(tuning, model))

    async def _tune(self, tuning: Tuning | None, model: str | None) -> None:
        description = await self._database.describe()
        name = description.active if model is None else description.of_model(model).column
        if name is not None:
            await self._database.redescribe(description.tuned(name, tuning))

    @_told_clearly
    async def feedback(
        self,
        recall_id: str,
        useful: Sequence[str],
        not_useful: Sequence[str] = (),
        source: str = "agent",
    ) -> FeedbackCounts:
        """Label hits of a logged recall as useful or not; the latest label of a pair counts.

        Raises:
            UnknownRecall: no such recall was logged.
            InvalidInput: an id was not among its hits, stands on both sides, or is forgotten.
        """
        return await self._journal.feedback(recall_id, useful, not_useful, source, self._scope)

    @_told_clearly
    async def forget(
        self,
        ids: Sequence[str] = (),
        *,
        where: Filter | None = None,
        dry_run: bool = False,
        purge: bool = False,
    ) -> Forgotten:
        """Delete memories by id or by filter, with their labels; with `purge` every trace.

        Raises:
            InvalidInput: neither ids nor a condition was given, or both were.
        """
        if bool(ids) == (where is not None and where.narrows):
            raise InvalidInput(
                "forget: give either ids or a filter (namespace, session, before, tags ...)"
            )
        if purge:
            self._scope.check_whole("a purge")
        predicate = _ids_predicate(ids) if ids or where is None else self._all_of(where)
        predicate = f"({predicate}) AND {self._within_scope()}"
        if dry_run:
            found = await self._eraser.matching(predicate)
        else:
            found = await self._eraser.forget(predicate)
            if purge:
                await self._eraser.purge()
        missing = tuple(dict.fromkeys(name for name in ids if name not in found))
        return Forgotten(ids=tuple(found), missing=missing, dry_run=dry_run)

    def _all_of(self, where: Filter) -> str:
        """What a filter describes with its replaced versions: they are to be forgotten as well."""
        return to_sql(replace(self._scope.narrowed(where), include_replaced=True))

    @_told_clearly
    async def purge(self) -> Purged:
        """Erase every trace of what was forgotten: from the log, old files, indexes and caches.

        Raises:
            StoreBusy: other writers kept the lock for too long; nothing was purged.
        """
        self._scope.check_whole("a purge")
        return await self._eraser.purge()

    @_told_clearly
    async def reindex(
        self, model: str | None = None, progress: Progress | None = None
    ) -> Reindexed:
        """Embed all memories with another model and switch to it, or only fill what is missing.

        Recall and remember go on meanwhile. `progress` gets rows done and rows in all.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        self._scope.check_whole("reindex")
        return await self._reindexer.reindex(model, progress)

    @_told_clearly
    async def prepare(self, model: str, progress: Progress | None = None) -> Reindexed:
        """Embed all memories with another model without a switch: for a trial, or a quick one.

        The tuning that its folder brings is taken over, unless the model is the active or the
        previous one: what these serve changes by `reindex` or `tune` alone.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        self._scope.check_whole("another model")
        return await self._reindexer.prepare(model, progress)

    @_told_clearly
    async def discard(self, model: str) -> None:
        """Drop the vectors of a model: its folder, its name or its fingerprint.

        Raises:
            InvalidInput: there are none, or the model is the active or the previous one.
        """
        self._scope.check_whole("a model")
        await self._reindexer.discard(model)

    @_told_clearly
    async def rollback(self, progress: Progress | None = None) -> StoreModel:
        """Switch back to the model used before, at once; then embed what it has not seen.

        Raises:
            InvalidInput: no other model was used before.
            ModelUnavailable, ModelMismatch: that model is gone or another; nothing was changed.
        """
        self._scope.check_whole("a rollback")
        fingerprint = await self._reindexer.rollback(progress)
        models = await store_models(self._database)
        return next(one for one in models if one.fingerprint == fingerprint)

    @_told_clearly
    async def models(self) -> list[StoreModel]:
        """Every model that the store holds vectors of: the active, the previous, the others."""
        self._scope.check_whole("the list of models")
        return await store_models(self._database)

    @_told_clearly
    async def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """n ids -> (n, d) unit rows by the active model, each of a memory's first passage.

        Zeros stand where a memory is not embedded yet or not known; d is 0 without a model.
        """
        self._scope.check_whole("vectors")
        return await self._recaller.vectors(ids)

    async def get(self, memory_id: str) -> Memory:
        """The memory with this id, whole.

        Raises:
            UnknownMemory: there is none.
        """
        name = checked_name(memory_id, "id") or ""
        rows = await self._read(f"id = {quoted(name)} AND {self._within_scope()}")
        if not rows:
            raise UnknownMemory(f"no memory has the id {name!r}; take the id from a recall")
        return rows[0]

    async def memories(self, where: Filter = WITH_REPLACED) -> AsyncIterator[Memory]:
        """All memories that the filter admits, by namespace, session, turn and creation."""
        order = ["namespace", "session", "turn", "created", "id"]
        predicate = to_sql(self._scope.narrowed(where))
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        with storage_errors(self.location):
            keys = await query.select(order).to_arrow()
        keys = keys.sort_by([(name, "ascending") for name in order])
        ids = keys.column("id").to_pylist()
        for start in range(0, len(ids), IDS_PER_PAGE):
            page = ids[start : start + IDS_PER_PAGE]
            found = {memory.id: memory for memory in await self._read(_ids_predicate(page))}
            for name in page:
                if name in found:
                    yield found[name]

    @_told_clearly
    async def _read(self, predicate: str) -> list[Memory]:
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        return [memory_of(row) for row in await query.select(list(schema.MEMORY_COLUMNS)).to_list()]

    @_told_clearly
    async def logged_recalls(self) -> list[LoggedRecall]:
        """The recall log, oldest first."""
        return [recall for recall in await self._journal.recalls() if self._scope.saw(recall)]

    @_told_clearly
    async def labels(self) -> list[Label]:
        """The latest judgement of each query and memory, oldest first."""
        labels = await self._journal.labels()
        return [label for label in labels if self._scope.covers(label.namespace)]

    @_told_clearly
    async def stats(self) -> StoreStats:
        """The size and state of the store, as far as the caller reaches."""
        memories = self._database.memories
        description = await self._database.describe()
        column = description.active_column
        in_scope = self._within_scope()
        query = memories.query().where(f"passage = 0 AND {in_scope}")
        rows = (await query.select(["namespace", "replaced_by"]).to_arrow()).to_pydict()
        lacking = f"{column.column} IS NULL AND {in_scope}" if column else in_scope
        return StoreStats(
            location=self.location,
            format=description.format,
            model=column.model if column else None,
            fingerprint=column.fingerprint if column else None,
            memories=len(rows["namespace"]),
            passages=await memories.count_rows(in_scope),
            without_vector=await memories.count_rows(lacking),
            replaced=sum(name is not None for name in rows["replaced_by"]),
            namespaces=dict(sorted(Counter(rows["namespace"]).items())),
            recalls=await self._journal.count(self._scope),
            labels=len(await self.labels()),
            bytes=await asyncio.to_thread(self._bytes),
        )

    def _bytes(self) -> int | None:
        folder = Path(self.location)
        if not self._scope.is_whole or not folder.is_dir():
            return None
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _ids_predicate(ids: Sequence[str]) -> str:
    return f"id IN {listed(checked_name(name, 'ids') or '' for name in ids)}"
