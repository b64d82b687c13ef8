"""How a store lies on disk: three tables, and a description that travels with the first.

`memories` has one row per passage: what is searched of it, and its place in the memory's text,
which the row of passage 0 carries whole. A row has one vector column per model; the description
says which one is active. Keeping text, vectors and description in one table makes every write of
a memory one commit, and every switch of models too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_store.errors import InvalidInput
from byheart_store.inputs import parse_time
from byheart_store.moments import iso
from byheart_store.ranking.stopwords import ENGLISH
from byheart_store.ranking.tuning import Tuning
from byheart_store.records import Memory

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable

FORMAT = 3

MEMORIES = "memories"
RECALLS = "recalls"
LABELS = "labels"

SEARCHED = "searched"
"""The column of the text leg: a passage with its speaker and the turns before it."""
ROW_KEY = ["id", "passage"]
EMBEDDED_KEY = [*ROW_KEY, "digest"]
"""With the digest, no vector reaches a row whose text has become another meanwhile."""

VECTOR_PREFIX = "vector_"
"""How the name of every vector column begins; the model's fingerprint follows."""

DESCRIBED_FIELD = "id"
DESCRIPTION_KEY = "byheart:store"

MEMORY_COLUMNS = tuple(one.name for one in fields(Memory))
"""The columns of a row of passage 0 that make a memory."""


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """One model's vectors: where they lie, what made them, and what was fitted for them."""

    column: str
    model: str
    fingerprint: str
    dimension: int
    tuning: Tuning | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a store says of itself.

    `active` names the vector column that recall uses, None until a first model was there, and
    `previous` the one that it used before, None until a first switch. `pending` is the one that
    a switch under way leads to. Of `columns`, what was prepared last stands last.
    `forgotten_since` is when the first memory was forgotten whose traces are not purged yet.
    """

    format: int = FORMAT
    active: str | None = None
    columns: tuple[VectorColumn, ...] = field(default=())
    previous: str | None = None
    pending: str | None = None
    forgotten_since: datetime | None = None

    @property
    def active_column(self) -> VectorColumn | None:
        """The vector column that recall uses."""
        return self.column(self.active)

    @property
    def pending_column(self) -> VectorColumn | None:
        """The vector column that a switch under way, or an interrupted one, leads to."""
        return self.column(self.pending)

    @property
    def previous_column(self) -> VectorColumn | None:
        """The vector column that recall used before the last switch."""
        return self.column(self.previous)

    def column(self, name: str | None) -> VectorColumn | None:
        """The vector column of this name."""
        return next((column for column in self.columns if column.column == name), None)

    def of_model(self, model: str) -> VectorColumn:
        """The column last prepared for a model: a folder, a FastEmbed name or a fingerprint.

        Raises:
            InvalidInput: the store holds no vectors of it.
        """
        names = {model, str(Path(model).expanduser().resolve())}
        for column in reversed(self.columns):
            if column.model in names or column.fingerprint == model:
                return column
        held = ", ".join(dict.fromkeys(column.model for column in self.columns))
        raise InvalidInput(
            f"the store holds no vectors of {model}, only of {held or 'no model at all'}; "
            "to switch to it: byheart reindex --model NAME"
        )

    def with_column(self, column: VectorColumn) -> Description:
        """The same description with this column, which keeps its tuning unless it brings one."""
        known = self.column(column.column)
        if known is not None and column.tuning is None:
            column = replace(column, tuning=known.tuning)
        others = (other for other in self.columns if other.column != column.column)
        return replace(self, columns=(*others, column))

    def without_column(self, column: VectorColumn) -> Description:
        """The same description without this column.

        Raises:
            InvalidInput: recall uses it, or would after a rollback.
        """
        if column.column == self.active:
            raise InvalidInput(
                f"{column.model} is the active model; switch to another one first: "
                "byheart reindex --model NAME"
            )
        if column.column == self.previous:
            raise InvalidInput(
                f"{column.model} is the model that a rollback returns to; its vectors stay until "
                "the store is switched to yet another one: byheart reindex --model NAME"
            )
        others = (other for other in self.columns if other.column != column.column)
        return replace(self, columns=tuple(others))

    def tuned(self, name: str, tuning: Tuning | None) -> Description:
        """The same description with what was fitted for the column of this name."""
        columns = tuple(
            replace(known, tuning=tuning) if known.column == name else known
            for known in self.columns
        )
        return replace(self, columns=columns)

    def at_format(self, number: int) -> Description:
        """The same description after a migration."""
        return replace(self, format=number)

    def activated(self, column: VectorColumn) -> Description:
        """The same description with this column in use, and the one used so far as previous."""
        previous = self.previous if self.active == column.column else self.active
        described = self.with_column(column)
        return replace(described, active=column.column, previous=previous, pending=None)

    def to_json(self) -> str:
        """One line of JSON."""
        values = asdict(self) | {"forgotten_since": iso(self.forgotten_since)}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Read what `to_json` wrote; of a newer format only its number."""
        values: dict[str, Any] = json.loads(text)
        if values["format"] > FORMAT:
            return cls(format=values["format"])
        columns = tuple(_vector_column_of(column) for column in values["columns"])
        since = values.get("forgotten_since")
        return cls(
            format=values["format"],
            active=values["active"],
            columns=columns,
            previous=values.get("previous"),
            pending=values.get("pending"),
            forgotten_since=None if since is None else parse_time(since, "forgotten_since"),
        )


def _vector_column_of(values: Mapping[str, Any]) -> VectorColumn:
    tuning = values.get("tuning")
    return VectorColumn(
        column=values["column"],
        model=values["model"],
        fingerprint=values["fingerprint"],
        dimension=values["dimension"],
        tuning=None if tuning is None else Tuning.from_dict(tuning),
    )


def described(layout: pa.Schema, description: Description) -> pa.Schema:
    """The layout with the description in its first field's metadata."""
    described_field = layout.field(DESCRIBED_FIELD).with_metadata(
        {DESCRIPTION_KEY: description.to_json()}
    )
    return layout.set(layout.get_field_index(DESCRIBED_FIELD), described_field)


def description_of(layout: pa.Schema) -> Description:
    """The description that a table's schema carries."""
    metadata = layout.field(DESCRIBED_FIELD).metadata or {}
    return Description.from_json(metadata[DESCRIPTION_KEY.encode()].decode())


async def has_text_index(memories: AsyncTable) -> bool:
    """Whether the column that the text leg searches is indexed."""
    return any(index.columns == [SEARCHED] for index in await memories.list_indices())


async def create_text_index(memories: AsyncTable, *, anew: bool = False) -> None:
    """Index the column that the text leg searches, unless it is, or anew."""
    from lancedb.index import FTS

    # icu/split segments Chinese, Japanese and Thai, and finds `foo` in `foo_bar`.
    config = FTS(base_tokenizer="icu/split", custom_stop_words=ENGLISH)
    if anew or not await has_text_index(memories):
        await memories.create_index(SEARCHED, config=config)


def vector_column(
    model: str, fingerprint: str, dimension: int, tuning: Tuning | None = None
) -> VectorColumn:
    """The column for a model's vectors, named by the fingerprint so that no two models share it."""
    return VectorColumn(f"{VECTOR_PREFIX}{fingerprint}", model, fingerprint, dimension, tuning)


def vector_field(column: VectorColumn) -> pa.Field:
    """The Arrow field of a vector column; null where a row is not embedded yet."""
    import pyarrow as pa

    return pa.field(column.column, pa.list_(pa.float32(), column.dimension))


def memories_schema() -> pa.Schema:
    """The `memories` table without its vector columns."""
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("passage", pa.int32(), nullable=False),
            pa.field("start", pa.int32(), nullable=False),
            pa.field("end", pa.int32(), nullable=False),
            pa.field("text", pa.string()),
            pa.field(SEARCHED, pa.string(), nullable=False),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("namespace", pa.string(), nullable=False),
            pa.field("session", pa.string()),
            pa.field("turn", pa.int32()),
            pa.field("speaker", pa.string()),
            pa.field("at", moment),
            pa.field("tags", pa.list_(pa.string()), nullable=False),
            pa.field("source", pa.string()),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field("metadata_terms", pa.list_(pa.string()), nullable=False),
            pa.field("created", moment, nullable=False),
            pa.field("replaces", pa.string()),
            pa.field("replaced_by", pa.string()),
            pa.field("replaced_at", moment),
            *origin_fields(),
        ]
    )


def origin_fields() -> list[pa.Field]:
    """The columns that tell who brought a memory."""
    import pyarrow as pa

    return [pa.field("client", pa.string()), pa.field("token", pa.string())]


def recalls_schema() -> pa.Schema:
    """The `recalls` table: one row per logged recall, its hits as parallel lists in rank order."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("recall_id", pa.string(), nullable=False),
            pa.field("query", pa.string(), nullable=False),
            pa.field("filter", pa.string(), nullable=False),
            pa.field("ids", pa.list_(pa.string()), nullable=False),
            pa.field("namespaces", pa.list_(pa.string()), nullable=False),
            pa.field("relevances", pa.list_(pa.float32()), nullable=False),
            pa.field("scores", pa.list_(pa.float32()), nullable=False),
            pa.field("model", pa.string()),
            pa.field("mode", pa.string(), nullable=False),
            pa.field("no_match", pa.bool_(), nullable=False),
            pa.field("degraded", pa.bool_(), nullable=False),
            pa.field("milliseconds", pa.float32(), nullable=False),
            pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )


def labels_schema() -> pa.Schema:
    """The `labels` table: judgements in the order they came; the latest of a pair counts."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("query", pa.string(), nullable=False),
            pa.field("memory_id", pa.string(), nullable=False),
            pa.field("useful", pa.bool_(), nullable=False),
            pa.field("namespace", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("type", pa.string()),
            pa.field("recall_id", pa.string()),
            pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    )
