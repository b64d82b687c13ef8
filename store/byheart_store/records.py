"""What goes into a store and what comes out of it, as plain frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

from byheart_store.errors import InvalidInput
from byheart_store.inputs import (
    LAST_TURN,
    checked_metadata,
    checked_name,
    checked_tags,
    checked_text,
    checked_time,
)
from byheart_store.moments import iso

DEFAULT_NAMESPACE = "default"
DEFAULT_LIMIT = 8

Mode = Literal["hybrid", "vector", "text"]
Status = Literal["stored", "duplicate", "replaced"]
Durability = Literal["fsync", "os"]
"""What a receipt promises: kept through a loss of power, or through a crash of the process only."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who brings a memory, as the server knows it: the program, and the name of its token."""

    client: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMemory:
    """A memory to be stored. Without an `id` the store gives it a uuid7.

    A `key` is the caller's name for this one write: in a namespace it is stored once, however often
    it is sent. `client` and `token` are its origin, for an import to restore.

    Raises:
        InvalidInput: a field is empty, too long or not storable; the message says what to send.
    """

    text: str
    namespace: str | None = None
    session: str | None = None
    turn: int | None = None
    speaker: str | None = None
    at: datetime | None = None
    tags: tuple[str, ...] = ()
    source: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    replaces: str | None = None
    replaced_by: str | None = None
    replaced_at: datetime | None = None
    id: str | None = None
    created: datetime | None = None
    key: str | None = None
    client: str | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "text", checked_text(self.text))
        for name in NAME_FIELDS:
            set_field(self, name, checked_name(getattr(self, name), name))
        for name in TIME_FIELDS:
            set_field(self, name, checked_time(getattr(self, name), name))
        set_field(self, "tags", checked_tags(self.tags))
        set_field(self, "metadata", checked_metadata(self.metadata))
        if self.turn is not None and not 0 <= self.turn <= LAST_TURN:
            raise InvalidInput(f"turn: {self.turn} must be a whole number from 0 to {LAST_TURN}")
        if self.id is not None and self.key is not None:
            raise InvalidInput("key: goes with a memory whose id the store gives; leave one out")
        if self.id is not None and self.id == self.replaces:
            raise InvalidInput(f"replaces: {self.id!r} can't replace itself; give it a new id")


NAME_FIELDS = tuple(one.name for one in fields(NewMemory) if one.type == "str | None")
"""The fields of a memory that hold a short text: names and ids."""

TIME_FIELDS = tuple(one.name for one in fields(NewMemory) if one.type == "datetime | None")
"""The fields of a memory that hold a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A stored memory. `created` and `replaced_at` are set by the store, in UTC.

    `client` and `token` tell who brought it, as the server knew.
    """

    id: str
    text: str
    namespace: str
    session: str | None
    turn: int | None
    speaker: str | None
    at: datetime | None
    tags: tuple[str, ...]
    source: str | None
    metadata: Mapping[str, Any]
    created: datetime
    replaces: str | None
    replaced_by: str | None
    replaced_at: datetime | None
    client: str | None
    token: str | None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values; what is absent is left out."""
        return json_values(self)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store's word that a memory is committed and can be recalled."""

    id: str
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which memories to consider. Every condition given must hold; none given admits all.

    `after` is inclusive and `before` exclusive; both compare `at`. `tags` must all be present,
    `metadata` pairs must all be equal. `as_of` admits what was known at that moment.
    """

    namespaces: tuple[str, ...] = ()
    session: str | None = None
    speaker: str | None = None
    tags: tuple[str, ...] = ()
    source: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    include_replaced: bool = False
    as_of: datetime | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        names = tuple(checked_name(name, "namespace") or "" for name in self.namespaces)
        set_field(self, "namespaces", names)
        for name in ("session", "speaker", "source"):
            set_field(self, name, checked_name(getattr(self, name), name))
        for name in ("after", "before", "as_of"):
            set_field(self, name, checked_time(getattr(self, name), name))
        set_field(self, "tags", checked_tags(self.tags))
        set_field(self, "metadata", checked_metadata(self.metadata))
        if self.after is not None and self.before is not None and self.after >= self.before:
            raise InvalidInput(
                f"after: {iso(self.after)} is not earlier than before: {iso(self.before)}; "
                "nothing can lie between them"
            )

    @property
    def narrows(self) -> bool:
        """Whether any condition beyond the handling of replaced memories is given."""
        return any(name != "include_replaced" for name in json_values(self))

    def beyond_namespaces(self) -> Filter:
        """The conditions other than namespaces and, unless one asks of the past, replacement."""
        return replace(self, namespaces=(), include_replaced=self.as_of is None)

    def as_dict(self) -> dict[str, Any]:
        """The conditions given, as JSON values."""
        return json_values(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a hit stands where it stands; ranks count from 1, scores are higher-is-better."""

    text_rank: int | None
    text_score: float | None
    vector_rank: int | None
    cosine: float | None
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A recalled memory with what of its text is shown: all of it, or the best passage.

    `start` and `end` are the character offsets of the shown `text` in `memory.text`.
    `relevance` is the estimated probability that the memory answers the query.
    """

    memory: Memory
    text: str
    start: int
    end: int
    relevance: float
    explanation: Explanation

    @property
    def id(self) -> str:
        """The memory's id."""
        return self.memory.id

    @property
    def is_excerpt(self) -> bool:
        """Whether `text` is less than the whole memory."""
        return self.end - self.start < len(self.memory.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """The answer to one query, best hit first.

    `answerable` is the estimated probability that anything in the store answers; where it is low
    there is `no_match`, and the hits are only the nearest. `degraded` tells that a leg could not
    be asked; `notice` says which, why, and what to do.
    """

    recall_id: str
    query: str
    hits: tuple[Hit, ...]
    answerable: float
    no_match: bool
    degraded: bool
    notice: str | None
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRecall:
    """A recall as the log keeps it; ids, namespaces, relevances and scores are in rank order."""

    recall_id: str
    query: str
    filter: Mapping[str, Any]
    ids: tuple[str, ...]
    namespaces: tuple[str, ...]
    relevances: tuple[float, ...]
    scores: tuple[float, ...]
    model: str | None
    mode: Mode
    no_match: bool
    degraded: bool
    milliseconds: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One judgement: whether a memory was useful for a query."""

    query: str
    memory_id: str
    useful: bool
    namespace: str
    source: str
    at: datetime
    recall_id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """How many labels a feedback wrote."""

    useful: int
    not_useful: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What a forget removed, or would remove when `dry_run`; `missing` are ids not in the store."""

    ids: tuple[str, ...]
    missing: tuple[str, ...]
    dry_run: bool

    @property
    def count(self) -> int:
        """The number of memories removed, or to be removed."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What a purge deleted with the last traces; `kept` are folders that may still hold some."""

    recalls: int
    labels: int
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """What a reindex did: the active model, the rows it embedded, the time it took."""

    model: str
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreModel:
    """A model that a store holds vectors of: `embedded` of its `passages` have one.

    Recall uses the vectors of the `active` one; a rollback returns to the `previous` one. `tuned`
    tells whether parameters were fitted for it.
    """

    model: str
    fingerprint: str
    dimension: int
    active: bool
    previous: bool
    embedded: int
    passages: int
    tuned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """The size and state of a store."""

    location: str
    format: int
    model: str | None
    fingerprint: str | None
    memories: int
    passages: int
    without_vector: int
    replaced: int
    namespaces: Mapping[str, int]
    recalls: int
    labels: int
    bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "namespaces": dict(self.namespaces)
        }


def json_values(record: Memory | Filter) -> dict[str, Any]:
    """The fields of a record as JSON values, in their order; what is absent or off is left out."""
    values = {one.name: _json_value(getattr(record, one.name)) for one in fields(record)}
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def _json_value(value: Any) -> Any:
    if isinstance(value, bool):
        return value or None
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


ADMIT_ALL = Filter()
WITH_REPLACED = Filter(include_replaced=True)
