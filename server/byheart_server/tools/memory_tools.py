"""The five tools. What they take is their input schema, so the SDK reads the annotations here."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from byheart_server.access.caller import current_caller
from byheart_server.backend import Backend, start_task
from byheart_server.tools.results import (
    FeedbackResult,
    ForgetResult,
    RecallResult,
    ReindexResult,
    RememberResult,
)
from byheart_store import (
    Filter,
    InvalidInput,
    MemoryStore,
    NewMemory,
    Receipt,
    UnknownMemory,
    now,
    parse_time,
)

Text = str | None
Texts = list[str] | None
Session = Annotated[Text, Field(description="conversation id")]
Moment = Annotated[Text, Field(description="ISO 8601 date or time")]


class MemoryTools:
    """The five tools. A ByHeartError that they raise reaches the client as its message."""

    def __init__(self, backend: Backend) -> None:
        """The tools wait for the backend's store when they are called."""
        self._backend = backend

    async def remember(
        self,
        text: str,
        namespace: Text = None,
        session: Session = None,
        speaker: Text = None,
        at: Annotated[Text, Field(description="when it happened, ISO 8601; default now")] = None,
        tags: Texts = None,
        source: Text = None,
        metadata: dict[str, Any] | None = None,
        replaces: Annotated[Text, Field(description="id of the memory this supersedes")] = None,
        key: Annotated[Text, Field(description="makes a retry safe")] = None,
    ) -> RememberResult:
        """Store one memory."""
        memory = NewMemory(
            text=text,
            namespace=namespace,
            session=session,
            speaker=speaker,
            at=now() if at is None else parse_time(at),
            tags=tuple(tags or ()),
            source=source,
            metadata=metadata or {},
            replaces=replaces,
            key=key,
        )
        return RememberResult.of(await self._backend.finish(self._store_memory(memory)))

    async def recall(
        self,
        query: str,
        limit: int = 8,
        namespace: Annotated[Text, Field(description="default all")] = None,
        session: Text = None,
        tags: Annotated[Texts, Field(description="all must be present")] = None,
        after: Moment = None,
        before: Moment = None,
        as_of: Annotated[Text, Field(description="date; what was known then")] = None,
        prefer_recent: bool = False,
        max_tokens: Annotated[int | None, Field(description="budget of the texts")] = None,
        explain: Annotated[bool, Field(description="add ranks and scores")] = False,
    ) -> RecallResult:
        """Find memories, from the text alone while the model is loading."""
        where = _filter(namespace, session, tags, after=after, before=before, as_of=as_of)
        store = await self.store()
        found = await store.recall(
            query,
            limit=limit,
            where=where,
            max_tokens=max_tokens,
            prefer_recent=prefer_recent,
            wait_for_model=False,
        )
        caller = current_caller()
        explained = caller.explained_fields if explain else ()
        return RecallResult.of(found, explained, caller.notice_text(found.notice))

    async def feedback(
        self, recall_id: str, useful: list[str], not_useful: Texts = None
    ) -> FeedbackResult:
        """Label what a recall found."""
        if not useful and not not_useful:
            raise InvalidInput("useful: no ids given; name at least one hit, or one in not_useful")
        store = await self.store()
        labelling = store.feedback(recall_id, useful, not_useful or ())
        return FeedbackResult.of(await self._backend.finish(labelling))

    async def forget(
        self,
        ids: Texts = None,
        namespace: Text = None,
        session: Text = None,
        before: Moment = None,
        tags: Texts = None,
        dry_run: Annotated[bool, Field(description="only count")] = False,
    ) -> ForgetResult:
        """Erase memories by their ids, or by a filter."""
        where = _filter(namespace, session, tags, before=before, include_replaced=True)
        _refuse_vague(ids, where)
        store = await self.store()
        if ids:
            erasing = store.forget(ids, dry_run=dry_run)
        else:
            erasing = store.forget(where=where, dry_run=dry_run)
        forgotten = await self._backend.finish(erasing)
        if ids and not forgotten.ids:
            raise UnknownMemory(
                f"nothing was forgotten: no memory has the id {_first_few(forgotten.missing)}; "
                "recall gives the ids"
            )
        return ForgetResult.of(forgotten, named=bool(ids))

    async def reindex(
        self, ctx: Context, model: Annotated[Text, Field(description="default: as it is")] = None
    ) -> ReindexResult:
        """Embed what has no vector, or everything with another model; compact."""
        store = await self.store()
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

        def progress(done: int, total: int) -> None:
            loop.call_soon_threadsafe(steps.put_nowait, (done, total))

        work = start_task(store.reindex(model, progress))
        work.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                await ctx.report_progress(*step)
            return ReindexResult.of(await work)
        finally:
            work.cancel()

    async def store(self) -> MemoryStore:
        """The store, limited to what the current caller may see of it."""
        return current_caller().scoped(await self._backend.store())

    async def _store_memory(self, memory: NewMemory) -> Receipt:
        store = await self._backend.store_with_model()
        return await current_caller().scoped(store).remember(memory)


def _filter(
    namespace: str | None,
    session: str | None,
    tags: list[str] | None,
    *,
    after: str | None = None,
    before: str | None = None,
    as_of: str | None = None,
    include_replaced: bool = False,
) -> Filter:
    return Filter(
        namespaces=() if namespace is None else (namespace,),
        session=session,
        tags=tuple(tags or ()),
        after=_moment(after, "after"),
        before=_moment(before, "before"),
        as_of=_moment(as_of, "as_of"),
        include_replaced=include_replaced,
    )


def _moment(value: str | None, name: str) -> datetime | None:
    return None if value is None else parse_time(value, name)


def _refuse_vague(ids: list[str] | None, where: Filter) -> None:
    if ids and where.narrows:
        raise InvalidInput("forget takes either ids or a filter, not both; leave one of them out")
    if not ids and not where.narrows:
        raise InvalidInput(
            "forget needs ids, or a filter: namespace, session, before or tags; it does not "
            "erase everything at once"
        )


def _first_few(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
