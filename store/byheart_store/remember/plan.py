"""What a batch of new memories will change: duplicates, successors and drafts, from rows read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from byheart_store.errors import InvalidInput, UnknownMemory
from byheart_store.inputs import LAST_TURN
from byheart_store.models.passages import Span
from byheart_store.moments import now, uuid7
from byheart_store.records import DEFAULT_NAMESPACE, Memory, NewMemory, Receipt
from byheart_store.remember.write_cache import Ends, SessionEnd
from byheart_store.tables.rows import (
    Draft,
    before_next,
    digest_of,
    digest_of_new,
    given_id,
)
from byheart_store.tables.schema import MEMORY_COLUMNS, VectorColumn

TARGET_COLUMNS = ["id", "namespace", "replaced_by"]

Row: TypeAlias = dict[str, Any]

Mark: TypeAlias = dict[str, Any]
"""What a replaced memory's rows are given: `replaced_by` and `replaced_at`."""


@dataclass(slots=True)
class Plan:
    """What a batch will change, as of one version of the table.

    `receipts` answers what is stored already and `drafts` holds what is not, both by the
    memory's position in the batch. `superseded` are rows of memories that the batch replaces.
    """

    version: int
    column: VectorColumn | None
    ends: Ends
    receipts: dict[int, Receipt]
    drafts: dict[int, Draft]
    superseded: list[Row]


def duplicates(
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
                check_replaceable(new, targets)
                receipts[position] = Receipt(same, "replaced")
                successors[target["id"]] = {"replaced_by": same, "replaced_at": now()}
    return receipts, successors


def repeated(new: NewMemory, drafts: Iterable[Draft]) -> Draft | None:
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


def in_namespace_of_target(new: NewMemory, targets: Mapping[str, Row]) -> NewMemory:
    """A memory in the namespace of what it replaces."""
    target = targets.get(new.replaces or "")
    if target is not None:
        return replace(new, namespace=target["namespace"])
    check_replaceable(new, targets)
    return new


def check_replaceable(new: NewMemory, targets: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UnknownMemory or InvalidInput where a new memory can't replace what it names."""
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


def mark_successor(memory: Memory, targets: dict[str, Row], successors: dict[str, Mark]) -> None:
    """Put a draft in the place of its target; what follows in the batch may replace the draft."""
    target = targets.get(memory.replaces or "")
    if target is not None and target["replaced_by"] is None:
        target["replaced_by"] = memory.id
        successors[target["id"]] = {"replaced_by": memory.id, "replaced_at": memory.created}
    targets[memory.id] = {name: getattr(memory, name) for name in TARGET_COLUMNS}


def superseded_draft(draft: Draft, successors: Mapping[str, Mark]) -> Draft:
    """The draft, marked where another one of its batch replaces it."""
    mark = successors.get(draft.memory.id)
    return draft if mark is None else replace(draft, memory=replace(draft.memory, **mark))


def draft_of(new: NewMemory, spans: Sequence[Span], ends: Ends) -> Draft:
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
