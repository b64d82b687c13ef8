"""`MemoryStore`: the only way to the memories, for tools, command line and evaluation alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from byheart_store import schema
from byheart_store.database import Database, storage_errors
from byheart_store.errors import ByHeartError, InvalidInput, UnknownMemory
from byheart_store.evidence import Evidence
from byheart_store.filters import listed, quoted, to_sql
from byheart_store.journal import Journal
from byheart_store.models import ActiveModel, ModelState, store_models
from byheart_store.recalling import Question, Recaller
from byheart_store.records import (
    ADMIT_ALL,
    DEFAULT_LIMIT,
    WITH_REPLACED,
    FeedbackCounts,
    Filter,
    Forgotten,
    Label,
    LoggedRecall,
    Memory,
    Mode,
    NewMemory,
    Recall,
    Receipt,
    Reindexed,
    StoreModel,
    StoreStats,
    checked_name,
)
from byheart_store.reindexing import Progress, Reindexer
from byheart_store.rows import memory_of
from byheart_store.tuning import Tuning
from byheart_store.writing import Writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS_PER_DELETE = 1_000

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
        self._log_recalls = log_recalls
        self._model = ActiveModel(database, model)
        self._writer = Writer(database, self._model)
        self._reindexer = Reindexer(database, self._model)
        self._journal = Journal(database)
        self._recaller = Recaller(database, self._model)
        self._filling: asyncio.Task[None] | None = None

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
    ) -> MemoryStore:
        """Open or create the store under `home`, or at `uri`. The model is loaded when needed.

        `model` is a folder or a FastEmbed name to insist on; None takes the store's own, and the
        embedded one for a new store. `patience` is the longest wait for other writers in seconds.

        A `trial` of `model` recalls through the vectors that `prepare` made with it, as after a
        switch to it. It logs no recalls, and whatever would write raises StoreUnavailable.

        Raises:
            InvalidInput: a trial of no model.
            StoreUnavailable: the home can't be used, or a newer version of ByHeart wrote it.
            StoreBusy: the store has to be created or migrated and others keep the lock.
        """
        if trial and model is None:
            raise InvalidInput("trial: name the model to be tried")
        database = await Database.open(home, uri, patience)
        if not trial or model is None:
            return cls(database, model, log_recalls=log_recalls)
        database.try_out(model)
        return cls(database, None, log_recalls=False)

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
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        await self._model.close()
        await self._journal.close()
        await self._database.close()

    @property
    def location(self) -> str:
        """The folder or URI of the database."""
        return self._database.location

    @property
    def model_state(self) -> ModelState:
        """How far the loading of the model has come."""
        return self._model.state

    @property
    def model_problem(self) -> str | None:
        """Why the model can't be had, and what to do next; None while nothing is wrong."""
        return str(self._model.failure) if self._model.failure else None

    def load_model(self) -> None:
        """Begin to load the model, and then to embed what was stored without it."""
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill_missing())

    async def _fill_missing(self) -> None:
        try:
            with storage_errors(self.location):
                encoder = await self._model.wait()
                column = (await self._database.describe()).active_column
                if column is not None and column.fingerprint == encoder.fingerprint:
                    await self._reindexer.fill(encoder, column)
        except ByHeartError:
            return  # recall says why, with what to do next

    @_told_clearly
    async def model_ready(self) -> None:
        """Wait for the model.

        Raises:
            ModelUnavailable: it can't be found, fetched or loaded.
            ModelMismatch: the store holds another model's vectors.
        """
        await self._model.wait()

    async def remember(self, memory: NewMemory) -> Receipt:
        """Store one memory; when this returns, it is committed and every process finds it.

        Without a model it is stored all the same, found by its words, and embedded later.

        Raises:
            InvalidInput: its id is taken, or the memory to be replaced was replaced already.
            UnknownMemory: the memory to be replaced is not there.
            ModelMismatch, StoreBusy, StoreUnavailable: nothing was stored.
        """
        return (await self.remember_many([memory]))[0]

    @_told_clearly
    async def remember_many(
        self, memories: Sequence[NewMemory], progress: Callable[[int], None] | None = None
    ) -> list[Receipt]:
        """Store memories in order, a few hundred per commit; `progress` gets how many were done.

        Raises:
            As `remember`; what was committed before stays, and storing it again is harmless.
        """
        return await self._writer.remember_many(memories, progress)

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
            where=where,
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
        return await self._recaller.evidence(Question(query=query, where=where))

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
        return await self._journal.feedback(recall_id, useful, not_useful, source)

    @_told_clearly
    async def forget(
        self, ids: Sequence[str] = (), *, where: Filter | None = None, dry_run: bool = False
    ) -> Forgotten:
        """Delete memories by id or by filter, with their labels.

        Raises:
            InvalidInput: neither ids nor a condition was given, or both were.
        """
        if bool(ids) == (where is not None and where.narrows):
            raise InvalidInput(
                "forget: give either ids or a filter (namespace, session, before, tags ...)"
            )
        predicate = _ids_predicate(ids) if ids or where is None else _all_of(where)
        if dry_run:
            found = await self._matching(predicate)
        else:
            found = await self._database.write(lambda: self._delete(predicate))
        missing = tuple(dict.fromkeys(name for name in ids if name not in found))
        return Forgotten(ids=tuple(found), missing=missing, dry_run=dry_run)

    async def _delete(self, predicate: str) -> list[str]:
        found = await self._matching(predicate)
        for start in range(0, len(found), IDS_PER_DELETE):
            ids = found[start : start + IDS_PER_DELETE]
            await self._database.delete(self._database.memories, f"id IN {listed(ids)}")
            await self._journal.forget(ids)
        return found

    async def _matching(self, predicate: str) -> list[str]:
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        return [row["id"] for row in await query.select(["id"]).to_list()]

    @_told_clearly
    async def reindex(
        self, model: str | None = None, progress: Progress | None = None
    ) -> Reindexed:
        """Embed all memories with another model and switch to it, or only fill what is missing.

        Recall and remember go on meanwhile. `progress` gets rows done and rows in all.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        return await self._reindexer.reindex(model, progress)

    @_told_clearly
    async def prepare(self, model: str, progress: Progress | None = None) -> Reindexed:
        """Embed all memories with another model without a switch: for a trial, or a quick one.

        The tuning that its folder brings is taken over, unless the model is the active or the
        previous one: what these serve changes by `reindex` or `tune` alone.

        Raises:
            ModelUnavailable: the model can't be found, fetched or loaded; nothing was changed.
        """
        return await self._reindexer.prepare(model, progress)

    @_told_clearly
    async def discard(self, model: str) -> None:
        """Drop the vectors of a model: its folder, its name or its fingerprint.

        Raises:
            InvalidInput: there are none, or the model is the active or the previous one.
        """
        await self._reindexer.discard(model)

    @_told_clearly
    async def rollback(self, progress: Progress | None = None) -> StoreModel:
        """Switch back to the model used before, at once; then embed what it has not seen.

        Raises:
            InvalidInput: no other model was used before.
            ModelUnavailable, ModelMismatch: that model is gone or another; nothing was changed.
        """
        fingerprint = await self._reindexer.rollback(progress)
        models = await store_models(self._database)
        return next(one for one in models if one.fingerprint == fingerprint)

    @_told_clearly
    async def models(self) -> list[StoreModel]:
        """Every model that the store holds vectors of: the active, the previous, the others."""
        return await store_models(self._database)

    @_told_clearly
    async def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """n ids -> (n, d) unit rows by the active model, each of a memory's first passage.

        Zeros stand where a memory is not embedded yet or not known; d is 0 without a model.
        """
        return await self._recaller.vectors(ids)

    async def get(self, memory_id: str) -> Memory:
        """The memory with this id, whole.

        Raises:
            UnknownMemory: there is none.
        """
        name = checked_name(memory_id, "id") or ""
        rows = await self._read(f"id = {quoted(name)}")
        if not rows:
            raise UnknownMemory(f"no memory has the id {name!r}; take the id from a recall")
        return rows[0]

    async def memories(self, where: Filter = WITH_REPLACED) -> AsyncIterator[Memory]:
        """All memories that the filter admits, by namespace, session, turn and creation."""
        order = ["namespace", "session", "turn", "created", "id"]
        query = self._database.memories.query().where(f"passage = 0 AND ({to_sql(where)})")
        with storage_errors(self.location):
            keys = await query.select(order).to_arrow()
        keys = keys.sort_by([(name, "ascending") for name in order])
        ids = keys.column("id").to_pylist()
        for start in range(0, len(ids), IDS_PER_DELETE):
            page = ids[start : start + IDS_PER_DELETE]
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
        return await self._journal.recalls()

    @_told_clearly
    async def labels(self) -> list[Label]:
        """The latest judgement of each query and memory, oldest first."""
        return await self._journal.labels()

    @_told_clearly
    async def stats(self) -> StoreStats:
        """The size and state of the store."""
        memories = self._database.memories
        description = await self._database.describe()
        column = description.active_column
        query = memories.query().where("passage = 0").select(["namespace", "replaced_by"])
        rows = (await query.to_arrow()).to_pydict()
        return StoreStats(
            location=self.location,
            format=description.format,
            model=column.model if column else None,
            fingerprint=column.fingerprint if column else None,
            memories=len(rows["namespace"]),
            passages=await memories.count_rows(),
            without_vector=await memories.count_rows(
                f"{column.column} IS NULL" if column else None
            ),
            replaced=sum(name is not None for name in rows["replaced_by"]),
            namespaces=dict(sorted(Counter(rows["namespace"]).items())),
            recalls=await self._database.recalls.count_rows(),
            labels=len(await self.labels()),
            bytes=await asyncio.to_thread(_bytes_below, Path(self.location)),
        )


def _ids_predicate(ids: Sequence[str]) -> str:
    return f"id IN {listed(checked_name(name, 'ids') or '' for name in ids)}"


def _all_of(where: Filter) -> str:
    """What a filter describes with its replaced versions: they are to be forgotten as well."""
    return to_sql(replace(where, include_replaced=True))


def _bytes_below(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
