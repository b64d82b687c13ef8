"""What a caller may do with the memories of a scope: the part of a store that each view has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from byheart_store.engine import Engine
from byheart_store.errors import InvalidInput, UnknownMemory
from byheart_store.inputs import checked_name
from byheart_store.ranking import Evidence
from byheart_store.recall.recaller import Question
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
    StoreStats,
)
from byheart_store.scope import Scope
from byheart_store.tables.engine_errors import storage_errors, with_storage_errors
from byheart_store.tables.filters import ids_predicate, quoted, to_sql


class ScopedMemories:
    """The memories of a scope: remember, recall, feedback, forget, and read what is there.

    What lies outside of the scope is treated as if it were not there.
    """

    def __init__(self, engine: Engine, scope: Scope) -> None:
        """Not to be called; see `MemoryStore.open` and `MemoryStore.within`."""
        self._engine = engine
        self._scope = scope

    @property
    def location(self) -> str:
        """The folder or URI of the database."""
        return self._engine.database.location.address

    @with_storage_errors
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
        return await self._engine.group_commit.remember(stamped)

    @with_storage_errors
    async def remember_many(
        self, memories: Sequence[NewMemory], progress: Callable[[int], None] | None = None
    ) -> list[Receipt]:
        """Store memories in order, a few hundred per commit; `progress` gets how many were done.

        Raises:
            As `remember`; what was committed before stays, and storing it again is harmless.
        """
        stamped = [self._scope.stamped(memory) for memory in memories]
        await self._check_replaced(stamped)
        return await self._engine.writer.remember_many(stamped, progress)

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
        return await self._engine.eraser.matching(f"({predicate}) AND {self._within_scope()}")

    def _within_scope(self) -> str:
        return to_sql(self._scope.narrowed(WITH_REPLACED))

    @with_storage_errors
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
        recall, logged = await self._engine.recaller.recall(question, wait_for_model=wait_for_model)
        if log and self._engine.log_recalls:
            self._engine.journal.record(logged)
        return recall

    @with_storage_errors
    async def evidence(
        self, query: str, where: Filter = ADMIT_ALL
    ) -> tuple[Evidence, tuple[str, ...]]:
        """What the legs say of each memory before a hybrid recall ranks them, and their ids.

        Raises:
            InvalidInput: an argument can't be accepted.
            ModelUnavailable, ModelMismatch: there is no model to ask with.
        """
        question = Question(query=query, where=self._scope.narrowed(where))
        return await self._engine.recaller.evidence(question)

    @with_storage_errors
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
        return await self._engine.journal.feedback(
            recall_id, useful, not_useful, source, self._scope
        )

    @with_storage_errors
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
        predicate = ids_predicate(ids) if ids or where is None else self._all_of(where)
        predicate = f"({predicate}) AND {self._within_scope()}"
        if dry_run:
            found = await self._engine.eraser.matching(predicate)
        else:
            found = await self._engine.eraser.forget(predicate)
            if purge:
                await self._engine.eraser.purge()
        missing = tuple(dict.fromkeys(name for name in ids if name not in found))
        return Forgotten(ids=tuple(found), missing=missing, dry_run=dry_run)

    def _all_of(self, where: Filter) -> str:
        """What a filter describes with its replaced versions: they are to be forgotten as well."""
        return to_sql(replace(self._scope.narrowed(where), include_replaced=True))

    @with_storage_errors
    async def get(self, memory_id: str) -> Memory:
        """The memory with this id, whole.

        Raises:
            UnknownMemory: there is none.
        """
        name = checked_name(memory_id, "id") or ""
        predicate = f"id = {quoted(name)} AND {self._within_scope()}"
        found = await self._engine.reader.matching(predicate)
        if not found:
            raise UnknownMemory(f"no memory has the id {name!r}; take the id from a recall")
        return found[0]

    async def memories(self, where: Filter = WITH_REPLACED) -> AsyncIterator[Memory]:
        """All memories that the filter admits, by namespace, session, turn and creation."""
        reader = self._engine.reader
        predicate = to_sql(self._scope.narrowed(where))
        with storage_errors(self.location):
            ids = await reader.ids(predicate)
            async for page in reader.pages(ids):
                for memory in page:
                    yield memory

    @with_storage_errors
    async def logged_recalls(self) -> list[LoggedRecall]:
        """The recall log, oldest first."""
        return [
            recall for recall in await self._engine.journal.recalls() if self._scope.saw(recall)
        ]

    @with_storage_errors
    async def labels(self) -> list[Label]:
        """The latest judgement of each query and memory, oldest first."""
        labels = await self._engine.journal.labels()
        return [label for label in labels if self._scope.covers(label.namespace)]

    @with_storage_errors
    async def stats(self) -> StoreStats:
        """The size and state of the store, as far as the caller reaches."""
        description = await self._engine.database.describe()
        column, reader, within = (
            description.active_column,
            self._engine.reader,
            self._within_scope(),
        )
        namespaces, replaced = await reader.namespaces(within)
        passages, without_vector = await reader.passages(within, column)
        return StoreStats(
            location=self.location,
            format=description.format,
            model=column.model if column else None,
            fingerprint=column.fingerprint if column else None,
            memories=sum(namespaces.values()),
            passages=passages,
            without_vector=without_vector,
            replaced=replaced,
            namespaces=namespaces,
            recalls=await self._engine.journal.count(self._scope),
            labels=len(await self.labels()),
            bytes=await reader.bytes() if self._scope.is_whole else None,
        )
