"""Remembering: look for duplicates, split, embed outside the lock, commit inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store.errors import InvalidInput, ModelUnavailable, UnknownMemory
from byheart_store.inputs import LAST_TURN
from byheart_store.models.passages import Span, split_passages
from byheart_store.records import DEFAULT_NAMESPACE, Memory, NewMemory, Receipt, now, uuid7
from byheart_store.remember.write_cache import CachedVersion, Ends, SessionEnd, WriteCache
from byheart_store.tables.active_model import ActiveModel
from byheart_store.tables.database import Database
from byheart_store.tables.filters import listed, quoted
from byheart_store.tables.rows import (
    TURNS_BEFORE,
    Draft,
    before_next,
    digest_of,
    digest_of_new,
    given_id,
    rows_of,
    spoken_texts,
    to_table,
)
from byheart_store.tables.schema import (
    MEMORIES,
    MEMORY_COLUMNS,
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

TARGET_COLUMNS = ["id", "namespace", "replaced_by"]


Row: TypeAlias = dict[str, Any]
Mark: TypeAlias = dict[str, Any]
"""What a replaced memory's rows are given: `replaced_by` and `replaced_at`."""


@dataclass(slots=True)
class Plan:
    """What a batch will change, as of one version of the table.

    `receipts` answers what is stored already and `drafts` holds what is not, both by the
    memory's place in the batch. `superseded` are rows of memories that the batch replaces.
    """

    version: int
    column: VectorColumn | None
    ends: Ends
    receipts: dict[int, Receipt]
    drafts: dict[int, Draft]
    superseded: list[Row]


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
        batch = await self._placed(batch)
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

    async def _placed(self, batch: Sequence[NewMemory]) -> Sequence[NewMemory]:
        """The batch with what replaces a memory put into that memory's namespace."""
        brought = {given_id(new) for new in batch}
        astray = [
            new
            for new in batch
            if new.replaces is not None and new.namespace is None and new.replaces not in brought
        ]
        if not astray:
            return batch
        targets = await self._targets(astray)
        return [_beside(new, targets) if new in astray else new for new in batch]

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
        receipts, successors = _duplicates(batch, await self._stored(batch, cached), targets)
        fresh = {position: new for position, new in enumerate(batch) if position not in receipts}
        ends = await self._session_ends(fresh.values(), cached)
        drafts: dict[int, Draft] = {}
        for position, new in fresh.items():
            first = _repeated(new, drafts.values())
            if first is None:
                _check_replaceable(new, targets)
                drafts[position] = _draft(new, spans[position], ends)
                _succeed(drafts[position].memory, targets, successors)
            else:
                receipts[position] = Receipt(first.memory.id, "duplicate")
        drafts = {
            position: _superseded_draft(draft, successors) for position, draft in drafts.items()
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


def _duplicates(
    batch: Sequence[NewMemory],
    stored: Iterable[Mapping[str, Any]],
    targets: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[int, Receipt], dict[str, Mark]]:
    """Receipts for what is stored already, and what it replaces now."""
    by_id = {row["id"]: row["digest"] for row in stored}
    by_digest = {row["digest"]: row["id"] for row in stored if row["replaced_by"] is None}
    receipts = {}
    successors: dict[str, Mark] = {}
    for position, new in enumerate(batch):
        digest, name = digest_of_new(new), given_id(new)
        if name is not None and name in by_id:
            _check_same(new, name, by_id[name], digest)
            receipts[position] = Receipt(name, "duplicate")
        elif new.id is None and digest in by_digest:
            same = by_digest[digest]
            target = targets.get(new.replaces or same)
            receipts[position] = Receipt(same, "duplicate")
            if target is not None and same not in (target["id"], target["replaced_by"]):
                _check_replaceable(new, targets)
                receipts[position] = Receipt(same, "replaced")
                successors[target["id"]] = {"replaced_by": same, "replaced_at": now()}
    return receipts, successors


def _repeated(new: NewMemory, drafts: Iterable[Draft]) -> Draft | None:
    """The draft of the same batch that `new` says again."""
    digest, name = digest_of_new(new), given_id(new)
    for draft in drafts:
        if name is not None and name == draft.memory.id:
            _check_same(new, name, draft.digest, digest)
            return draft
        if new.id is None and digest == draft.digest:
            return draft
    return None


def _check_same(new: NewMemory, memory_id: str, stored: str, given: str) -> None:
    if stored == given:
        return
    if new.key is not None:
        raise InvalidInput(
            f"key: {new.key!r} was given to another memory, {memory_id}; nothing was stored; "
            "give each memory a key of its own, or name that id in replaces to supersede it"
        )
    raise InvalidInput(
        f"id: {memory_id!r} is taken by another memory; "
        "leave the id out, or forget that memory first"
    )


def _beside(new: NewMemory, targets: Mapping[str, Row]) -> NewMemory:
    """A memory in the namespace of what it replaces."""
    target = targets.get(new.replaces or "")
    if target is not None:
        return replace(new, namespace=target["namespace"])
    _check_replaceable(new, targets)
    return new


def _check_replaceable(new: NewMemory, targets: Mapping[str, Mapping[str, Any]]) -> None:
    # What an import brings with its own id tells history as it was; its targets may be gone.
    if new.replaces is None or new.id is not None:
        return
    target = targets.get(new.replaces)
    if target is None:
        raise UnknownMemory(
            f"replaces: no memory has the id {new.replaces!r}; take the id from a recall"
        )
    if target["replaced_by"] is not None:
        raise InvalidInput(
            f"replaces: {new.replaces!r} was already replaced by {target['replaced_by']!r}; "
            "replace that one"
        )
    if target["namespace"] != (new.namespace or DEFAULT_NAMESPACE):
        raise InvalidInput(
            f"namespace: {new.replaces!r} lies in {target['namespace']!r}; "
            "a memory is replaced within its namespace"
        )


def _succeed(memory: Memory, targets: dict[str, Row], successors: dict[str, Mark]) -> None:
    """Put a draft in the place of its target; what follows in the batch may replace the draft."""
    target = targets.get(memory.replaces or "")
    if target is not None and target["replaced_by"] is None:
        target["replaced_by"] = memory.id
        successors[target["id"]] = {"replaced_by": memory.id, "replaced_at": memory.created}
    targets[memory.id] = {name: getattr(memory, name) for name in TARGET_COLUMNS}


def _superseded_draft(draft: Draft, successors: Mapping[str, Mark]) -> Draft:
    mark = successors.get(draft.memory.id)
    return draft if mark is None else replace(draft, memory=replace(draft.memory, **mark))


def _draft(new: NewMemory, spans: Sequence[Span], ends: Ends) -> Draft:
    """Identify a memory and put it at the end of its session, which moves on to it."""
    namespace = new.namespace or DEFAULT_NAMESPACE
    key = (namespace, new.session or "")
    end = ends.get(key) if new.session else None
    turn = new.turn
    if turn is None and new.session:
        turn = min(end.turn + 1, LAST_TURN) if end else 0
    values = {name: getattr(new, name) for name in MEMORY_COLUMNS}
    memory = Memory(
        **values
        | {
            "id": given_id(new) or uuid7(),
            "namespace": namespace,
            "turn": turn,
            "created": new.created or now(),
        }
    )
    in_order = turn is not None and (end is None or end.turn <= turn)
    before = None if not new.session else end.before if end and in_order else ()
    draft = Draft(memory, digest_of(namespace, new.session, new.text), tuple(spans), before)
    if new.session and turn is not None and in_order:
        ends[key] = SessionEnd(turn, before_next(before or (), draft.texts()))
    return draft
