"""Remembering: look for duplicates, split, embed outside the lock, commit inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.errors import ModelUnavailable
from byheart_store.models.passages import Span, split_passages
from byheart_store.records import DEFAULT_NAMESPACE, NewMemory, Receipt
from byheart_store.remember.plan import (
    TARGET_COLUMNS,
    Mark,
    Plan,
    Row,
    check_replaceable,
    draft_of,
    duplicates,
    in_namespace_of_target,
    mark_successor,
    repeated,
    superseded_draft,
)
from byheart_store.remember.write_cache import CachedVersion, Ends, SessionEnd, WriteCache
from byheart_store.tables.active_model import ActiveModel
from byheart_store.tables.database import Database
from byheart_store.tables.filters import listed, quoted
from byheart_store.tables.rows import (
    TURNS_BEFORE,
    Draft,
    before_next,
    digest_of_new,
    given_id,
    rows_of,
    spoken_texts,
    to_table,
)
from byheart_store.tables.schema import (
    MEMORIES,
    ROW_KEY,
    Description,
    VectorColumn,
    memories_schema,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from byheart_store.models.encoder import Encoder

    Vectors: TypeAlias = NDArray[np.float32]


LONGEST_WAIT_FOR_MODEL = 10.0
"""Seconds; a model that has to be downloaded first must not hold up a memory."""

MEMORIES_PER_COMMIT = 256
"""Large enough to fill the encoder's batches, small enough to let other writers in between."""

SHORT_BATCH = 2_000
"""Characters that are split in less time than it takes to wake a thread."""


class Writer:
    """Turns new memories into committed rows."""

    def __init__(self, database: Database, model: ActiveModel) -> None:
        """The writer of one open store."""
        self._database = database
        self._model = model
        self._cached = WriteCache(database)

    async def remember_many(
        self, memories: Sequence[NewMemory], progress: Callable[[int], None] | None
    ) -> list[Receipt]:
        """Store memories in order, a batch per commit; `progress` is told how many more are done.

        Raises:
            InvalidInput: an id is taken by another text, or a memory was replaced already.
            UnknownMemory: a memory to be replaced is not there.
        """
        receipts: list[Receipt] = []
        for start in range(0, len(memories), MEMORIES_PER_COMMIT):
            batch = memories[start : start + MEMORIES_PER_COMMIT]
            receipts += await self._remember(batch)
            if progress is not None:
                progress(len(batch))
        return receipts

    async def _remember(self, batch: Sequence[NewMemory]) -> list[Receipt]:
        batch = await self._in_namespaces(batch)
        spans = await _split(batch)
        committed = None
        while committed is None:
            version, description = await self._database.described()
            encoder = await self._encoder(description)
            plan = await self._plan(batch, spans, version, description)
            if encoder and (plan.column is None or plan.column.fingerprint != encoder.fingerprint):
                continue
            vectors = await self._embed(plan, encoder)
            commit = partial(self._commit, batch, spans, plan, vectors)
            committed = await self._database.write(commit, tables=[MEMORIES])
        return [committed[position] for position in range(len(batch))]

    async def _encoder(self, description: Description) -> Encoder | None:
        """The store's encoder, or None where it can't be had in time: the rows are filled later."""
        try:
            return self._model.at_hand(description) or await asyncio.wait_for(
                self._model.wait(), LONGEST_WAIT_FOR_MODEL
            )
        except (ModelUnavailable, TimeoutError):
            return None

    async def _in_namespaces(self, batch: Sequence[NewMemory]) -> Sequence[NewMemory]:
        """The batch with what replaces a memory put into that memory's namespace."""
        brought = {given_id(new) for new in batch}
        without_namespace = [
            new
            for new in batch
            if new.replaces is not None and new.namespace is None and new.replaces not in brought
        ]
        if not without_namespace:
            return batch
        targets = await self._targets(without_namespace)
        return [
            in_namespace_of_target(new, targets) if new in without_namespace else new
            for new in batch
        ]

    async def _embed(self, plan: Plan, encoder: Encoder | None) -> Mapping[int, Vectors]:
        """The (passages, d) vectors of each draft; none at all without an encoder."""
        if encoder is None or not plan.drafts:
            return {}
        texts = {position: draft.texts() for position, draft in plan.drafts.items()}
        flat = [text for own in texts.values() for text in own]
        vectors = await asyncio.to_thread(encoder.encode_passages, flat)
        ends = accumulate(len(own) for own in texts.values())
        return {
            position: vectors[end - len(own) : end]
            for (position, own), end in zip(texts.items(), ends, strict=True)
        }

    async def _commit(
        self,
        batch: Sequence[NewMemory],
        spans: Sequence[Sequence[Span]],
        plan: Plan,
        vectors: Mapping[int, Vectors],
    ) -> dict[int, Receipt] | None:
        """Write what was planned; None where others' commits call for another embedding."""
        version, description = await self._database.described()
        if version != plan.version:
            column, plan = plan.column, await self._plan(batch, spans, version, description)
            if plan.column != column or (vectors and not plan.drafts.keys() <= vectors.keys()):
                return None
        if plan.drafts or plan.superseded:
            version = await self._write(plan, vectors)
            digests = [draft.digest for draft in plan.drafts.values()]
            self._cached.committed(plan.version, version, digests, plan.ends)
        return plan.receipts | {
            position: Receipt(draft.memory.id, "replaced" if draft.memory.replaces else "stored")
            for position, draft in plan.drafts.items()
        }

    async def _write(self, plan: Plan, vectors: Mapping[int, Vectors]) -> int:
        """Commit a plan's rows and return the version that holds them."""
        import numpy as np

        rows = rows_of(plan.drafts.values())
        stacked = (
            np.concatenate([vectors[position] for position in plan.drafts]) if vectors else None
        )
        column = plan.column.column if plan.column else None
        table = to_table(rows, column, stacked)
        memories = self._database.memories
        if not plan.superseded:
            return await self._database.add(memories, table)
        # One commit for both sides, so that no crash leaves two current versions of one fact.
        import pyarrow as pa

        old = pa.Table.from_pylist(plan.superseded, schema=table.schema)
        return await self._database.merge(memories, ROW_KEY, pa.concat_tables([old, table]))

    async def _plan(
        self,
        batch: Sequence[NewMemory],
        spans: Sequence[Sequence[Span]],
        version: int,
        description: Description,
    ) -> Plan:
        """What the batch will change; the description must be at least as new as the version."""
        column = description.active_column
        targets = await self._targets(batch)
        cached = await self._cached.at(version)
        receipts, successors = duplicates(batch, await self._stored(batch, cached), targets)
        fresh = {position: new for position, new in enumerate(batch) if position not in receipts}
        ends = await self._session_ends(fresh.values(), cached)
        drafts: dict[int, Draft] = {}
        for position, new in fresh.items():
            first = repeated(new, drafts.values())
            if first is None:
                check_replaceable(new, targets)
                drafts[position] = draft_of(new, spans[position], ends)
                mark_successor(drafts[position].memory, targets, successors)
            else:
                receipts[position] = Receipt(first.memory.id, "duplicate")
        drafts = {
            position: superseded_draft(draft, successors) for position, draft in drafts.items()
        }
        superseded = await self._superseded(successors, column)
        return Plan(version, column, ends, receipts, drafts, superseded)

    async def _stored(self, batch: Sequence[NewMemory], cached: CachedVersion | None) -> list[Row]:
        """The rows whose id is given in the batch, or whose text is and was not replaced."""
        given = {name for new in batch if (name := given_id(new)) is not None}
        digests = {digest_of_new(new) for new in batch if new.id is None}
        if cached is not None:
            digests = {digest for digest in digests if cached.may_hold(digest)}
        conditions = [f"id IN {listed(given)}"] if given else []
        if digests:
            conditions.append(f"(digest IN {listed(digests)} AND replaced_by IS NULL)")
        if not conditions:
            return []
        return await self._rows(" OR ".join(conditions), ["id", "digest", "replaced_by"])

    async def _targets(self, batch: Iterable[NewMemory]) -> dict[str, Row]:
        """The stored memories that the batch replaces, by id."""
        wanted = {new.replaces for new in batch if new.replaces is not None}
        if not wanted:
            return {}
        rows = await self._rows(f"id IN {listed(wanted)}", TARGET_COLUMNS)
        return {row["id"]: row for row in rows}

    async def _rows(self, predicate: str, columns: list[str]) -> list[Row]:
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        rows: list[Row] = await query.select(columns).to_list()
        return rows

    async def _session_ends(self, fresh: Iterable[NewMemory], cached: CachedVersion | None) -> Ends:
        keys = {(new.namespace or DEFAULT_NAMESPACE, new.session) for new in fresh if new.session}
        ends = {key: cached.ends[key] for key in keys if key in cached.ends} if cached else {}
        asked = [key for key in keys if key not in ends]
        found = await asyncio.gather(*(self._session_end(*key) for key in asked))
        return ends | dict(zip(asked, found, strict=True))

    async def _session_end(self, namespace: str, session: str) -> SessionEnd | None:
        from lancedb.query import ColumnOrdering

        query = self._database.memories.query().where(
            f"passage = 0 AND namespace = {quoted(namespace)} AND session = {quoted(session)}"
        )
        last_first = [ColumnOrdering(column_name="turn", ascending=False)]
        last = query.order_by(last_first).limit(TURNS_BEFORE)
        rows = await last.select(["turn", "speaker", "text", "end"]).to_list()
        if not rows:
            return None
        before: tuple[str, ...] = ()
        for row in reversed(rows):
            before = before_next(before, spoken_texts(row))
        return SessionEnd(rows[0]["turn"], before)

    async def _superseded(
        self, successors: Mapping[str, Mark], column: VectorColumn | None
    ) -> list[Row]:
        """All stored rows of the replaced memories, marked with what replaces them and when."""
        if not successors:
            return []
        names = memories_schema().names + ([column.column] if column else [])
        query = self._database.memories.query().where(f"id IN {listed(successors)}")
        rows = await query.select(names).to_list()
        return [row | successors[row["id"]] for row in rows]


async def _split(batch: Sequence[NewMemory]) -> list[list[Span]]:
    """The passages of each memory; a short batch is not worth a thread."""
    texts = [new.text for new in batch]
    if sum(map(len, texts)) <= SHORT_BATCH:
        return list(map(split_passages, texts))
    return await asyncio.to_thread(lambda: list(map(split_passages, texts)))
