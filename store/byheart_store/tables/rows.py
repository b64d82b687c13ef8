"""Memories as table rows: one per passage, the first with the whole text."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from byheart_store.models.passages import Span, passage_text, passage_texts
from byheart_store.records import DEFAULT_NAMESPACE, Memory, NewMemory
from byheart_store.tables import schema
from byheart_store.tables.filters import metadata_terms

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

CONVERSATION_ORDER = ("namespace", "session", "turn", "created", "id", "passage")
"""The order of a conversation."""

SEARCH_COLUMNS = (*CONVERSATION_ORDER, "start", "end", "speaker", "text")
"""What `searched_anew` needs of a row."""

TURNS_BEFORE = 2
LONGEST_BEFORE = 500
"""So many whole turns, of so many characters together, are searched with the turn after them."""

_KEYS = uuid.UUID("01a20a3c-5a5e-7b1e-9d0c-6b657973b5e1")

OWN_WORDS = 3
"""How often a turn's own words stand beside those before it: a field weight, as in BM25F
(Robertson, Zaragoza and Taylor 2004), for an index that has none."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A memory on its way into the table: identified, split, and with what stood before it."""

    memory: Memory
    digest: str
    spans: tuple[Span, ...]
    before: tuple[str, ...] | None

    def texts(self) -> list[str]:
        """What the encoder reads, one text per passage."""
        return passage_texts(self.memory.speaker, self.memory.text, self.spans)


def searched(passages: Sequence[str], before: Sequence[str] | None) -> list[str]:
    """What the text leg searches of each passage as said.

    `before` are the turns that a memory's words are searched with, None outside of sessions. A
    long memory has context enough of its own.
    """
    if before is None or len(passages) > 1:
        return list(passages)
    return ["\n".join([*before, *list(passages) * OWN_WORDS])]


def searched_anew(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """What the text leg searches of each row, given whole sessions in `CONVERSATION_ORDER`.

    Rows need the `SEARCH_COLUMNS`; only the first of each memory has a `text`.
    """
    before: tuple[str, ...] = ()
    session = None
    for _, group in groupby(rows, key=itemgetter("id")):
        passages = list(group)
        first = passages[0]
        if session != (first["namespace"], first["session"]):
            session, before = (first["namespace"], first["session"]), ()
        parts = [first["text"][row["start"] : row["end"]] for row in passages]
        texts = [passage_text(first["speaker"], part) for part in parts]
        found = searched(texts, None if first["session"] is None else before)
        yield from zip(passages, found, strict=True)
        before = before_next(before, texts)


def before_next(before: Sequence[str], passages: Sequence[str]) -> tuple[str, ...]:
    """The turns that the turn after this one is searched with, oldest first.

    Whole short turns only: the tail of a long one says little of what follows it.
    """
    if len(passages) > 1:
        return ()
    turns = [*before, *passages][-TURNS_BEFORE:]
    while turns and sum(map(len, turns)) > LONGEST_BEFORE:
        del turns[0]
    return tuple(turns)


def spoken_texts(row: Mapping[str, Any]) -> list[str]:
    """What was said in a memory, from its first row: one text if it is short, else parts."""
    text, end = row["text"], row["end"]
    parts = [text[:end], text[end:]] if text[end:].strip() else [text[:end]]
    return [passage_text(row["speaker"], part) for part in parts]


def digest_of(namespace: str, session: str | None, text: str) -> str:
    """The same for the same text in the same namespace and session, and for nothing else."""
    parts = json.dumps([namespace, session, text]).encode()
    return hashlib.blake2b(parts, digest_size=16).hexdigest()


def digest_of_new(memory: NewMemory) -> str:
    """The digest that a new memory will have."""
    return digest_of(memory.namespace or DEFAULT_NAMESPACE, memory.session, memory.text)


def given_id(memory: NewMemory) -> str | None:
    """The id that a new memory brings, or that its key amounts to; else the store gives one."""
    if memory.key is None:
        return memory.id
    name = json.dumps([memory.namespace or DEFAULT_NAMESPACE, memory.key])
    return str(uuid.uuid5(_KEYS, name))


def rows_of(drafts: Iterable[Draft]) -> list[dict[str, Any]]:
    """The rows of all passages, draft by draft, without vectors."""
    return [row for draft in drafts for row in _rows(draft)]


def _rows(draft: Draft) -> list[dict[str, Any]]:
    memory = draft.memory
    shared = {name: getattr(memory, name) for name in schema.MEMORY_COLUMNS} | {
        "digest": draft.digest,
        "tags": list(memory.tags),
        "metadata": json.dumps(dict(memory.metadata), ensure_ascii=False),
        "metadata_terms": metadata_terms(memory.metadata),
    }
    texts = searched(draft.texts(), draft.before)
    rows = [
        shared
        | {"passage": number, "start": span.start, "end": span.end}
        | {"text": None, "searched": text}
        for number, (span, text) in enumerate(zip(draft.spans, texts, strict=True))
    ]
    return [rows[0] | {"text": memory.text}, *rows[1:]]


def to_table(
    rows: Sequence[Mapping[str, Any]], column: str | None, vectors: NDArray[np.float32] | None
) -> pa.Table:
    """Rows and their (n, d) vectors as an Arrow table; without vectors the column is left out."""
    import pyarrow as pa

    table = pa.Table.from_pylist(list(rows), schema=schema.memories_schema())
    if column is None or vectors is None:
        return table
    return table.append_column(column, vector_array(vectors))


def keyed_vectors(
    rows: Sequence[Mapping[str, Any]], column: str, vectors: NDArray[np.float32]
) -> pa.Table:
    """The rows' keys beside their (n, d) vectors, for a partial update."""
    import pyarrow as pa

    return pa.table(
        {
            "id": pa.array([row["id"] for row in rows], pa.string()),
            "passage": pa.array([row["passage"] for row in rows], pa.int32()),
            "digest": pa.array([row["digest"] for row in rows], pa.string()),
            column: vector_array(vectors),
        }
    )


def vector_array(vectors: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """(n, d) vectors as an Arrow array of n lists."""
    import numpy as np
    import pyarrow as pa

    flat = np.ascontiguousarray(vectors, dtype=np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])


def memory_of(row: Mapping[str, Any]) -> Memory:
    """The memory that a row of passage 0 carries."""
    values = {field.name: row[field.name] for field in fields(Memory)}
    values["tags"] = tuple(row["tags"])
    values["metadata"] = json.loads(row["metadata"])
    return Memory(**values)
