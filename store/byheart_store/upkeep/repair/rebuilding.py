"""Whole memories made of what was read of damaged ones.

Of each memory the first row carries everything, and a digest of its text. The other rows, the
words to be searched and the vectors are derived from it, so whatever is damaged of these is made
anew, and a first row read from a damaged file can be verified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store.models.passages import Span, split_passages
from byheart_store.moments import now
from byheart_store.tables.rows import (
    CONVERSATION_ORDER,
    SEARCH_COLUMNS,
    Draft,
    digest_of,
    memory_of,
    rows_of,
    searched_anew,
)
from byheart_store.tables.schema import MEMORY_COLUMNS, SEARCHED, VECTOR_PREFIX
from byheart_store.upkeep.repair.row_checks import (
    Checked,
    are_units,
    by_memory,
    is_verified,
    is_whole,
)
from byheart_store.upkeep.repair.salvage import ROW_ID, Read

if TYPE_CHECKING:
    import pyarrow as pa

    Row: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Rebuilt:
    """A table made whole: its rows, and what became of the memories that were damaged.

    `recovered` were read from damaged files and verified. `lost` are the ids of those of which
    something was left, but not enough; `remains` are their rows.
    """

    rows: pa.Table
    recovered: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    remains: list[Row] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Passages that lost memories must have had, and of which nothing remains."""
        last = {row["id"]: 0 for row in self.remains}
        for row in self.remains:
            last[row["id"]] = max(last[row["id"]], row["passage"])
        return sum(last.values()) + len(last) - len(self.remains)


def rebuild(read: Read, checked: Checked, layout: pa.Schema) -> Rebuilt:
    """Make a whole table of all memories that can be verified.

    Rows of sound memories stay as they are. Whatever another memory lacks is made anew, but for
    its vectors, which are null until they are embedded.
    """
    import pyarrow as pa

    everything = pa.concat_tables([read.sound, read.damaged], promote_options="default")
    hit = set(read.damaged.column("id").to_pylist()) if len(read.damaged) else set()
    anew = checked.bad | hit
    names = [name for name in everything.column_names if not name.startswith(VECTOR_PREFIX)]
    ids = everything.column("id").to_pylist()
    # Of two rows for one passage that of the later fragment counts, which has taken its position.
    numbers = everything.column(ROW_ID).fill_null(0).to_pylist()
    own = [position for position, name in enumerate(ids) if name in anew]
    own.sort(key=lambda position: -numbers[position])
    kept = [position for position in range(len(read.sound)) if ids[position] not in anew]
    broken_rows = everything.select(names).take(pa.array(own, pa.int64())).to_pylist()
    for position, row in zip(own, broken_rows, strict=True):
        row[ROW_ID] = position
    rebuilt = Rebuilt(everything)
    heads = _verified_heads(broken_rows, rebuilt, hit)
    around = everything.select(SEARCH_COLUMNS)
    made = _made_anew(heads, broken_rows, around.take(pa.array(kept, pa.int64())).to_pylist)
    rebuilt.rows = _arranged(everything, kept, made, layout)
    return rebuilt


def _verified_heads(broken_rows: Iterable[Row], rebuilt: Rebuilt, hit: set[str]) -> list[Row]:
    heads: list[Row] = []
    broken_rows = [row | {"passage": _passage(row)} for row in broken_rows if row["id"] is not None]
    for name, rows in by_memory(broken_rows):
        head = next((row for row in rows if _is_recoverable(row)), None)
        if head is None:
            rebuilt.lost.append(name)
            rebuilt.remains += rows
            continue
        heads.append(_with_defaults(head))
        if name in hit:
            rebuilt.recovered.append(name)
    return heads


def _passage(row: Row) -> int:
    if row["passage"] is not None and row["passage"] >= 0:
        return int(row["passage"])
    return 0 if row["text"] is not None else 1


def _is_recoverable(row: Row) -> bool:
    """A first row whose text is what its digest says; where the digest is unreadable, any."""
    if not row["id"] or row["text"] is None or not row["namespace"]:
        return False
    return row["digest"] is None or is_verified(row)


def _with_defaults(head: Row) -> Row:
    """A first row with something in place of what could not be read of it."""
    metadata = head["metadata"]
    try:
        is_object = isinstance(json.loads(metadata), dict)
    except (TypeError, ValueError):
        is_object = False
    return head | {
        "tags": [tag for tag in head["tags"] or () if tag is not None],
        "metadata": metadata if is_object else "{}",
        "created": head["created"] or head["at"] or now(),
        "digest": digest_of(head["namespace"], head["session"], head["text"]),
    }


def _made_anew(
    heads: Sequence[Row], broken_rows: Iterable[Row], around: Callable[[], list[Row]]
) -> list[Row]:
    """All rows of the memories, each with the position of its former self as its row id."""
    if not heads:
        return []
    former: dict[tuple[str, int], Row] = {}
    for row in broken_rows:
        former.setdefault((row["id"], row["passage"]), row)
    rows: list[Row] = []
    for head in heads:
        spans = _spans(head, _former(former, head))
        missing = dict.fromkeys(set(MEMORY_COLUMNS) - head.keys())
        draft = Draft(memory_of(head | missing), head["digest"], tuple(spans), None)
        for row in rows_of([draft]):
            old = former.get((row["id"], row["passage"]), {})
            same = (old.get("start"), old.get("end")) == (row["start"], row["end"])
            rows.append(row | {ROW_ID: old[ROW_ID] if same else None})
    _search_anew(rows, around)
    return rows


def _former(former: Mapping[tuple[str, int], Row], head: Row) -> list[Row]:
    rows = [head]
    while (row := former.get((head["id"], len(rows)))) is not None:
        rows.append(row)
    return rows


def _spans(head: Row, passages: Sequence[Row]) -> list[Span]:
    if is_whole(passages):
        return [Span(row["start"], row["end"]) for row in passages]
    return split_passages(head["text"])


def _search_anew(rows: Sequence[Row], around: Callable[[], list[Row]]) -> None:
    """Put the turns before into what is searched of the turns of sessions."""
    in_session = {(row["namespace"], row["session"]) for row in rows if row["session"] is not None}
    if not in_session:
        return
    neighbours = (row for row in around() if (row["namespace"], row["session"]) in in_session)
    whole = [*(row for row in rows if row["session"] is not None), *neighbours]
    whole.sort(key=_conversation_order)
    found = {(row["id"], row["passage"]): text for row, text in searched_anew(whole)}
    for row in rows:
        row[SEARCHED] = found.get((row["id"], row["passage"]), row[SEARCHED])


def _conversation_order(row: Row) -> list[Any]:
    values = (row[name] for name in CONVERSATION_ORDER)
    return [(False, 0) if value is None else (True, value) for value in values]


def _arranged(
    everything: pa.Table, kept: Sequence[int], made: Sequence[Row], layout: pa.Schema
) -> pa.Table:
    """The kept rows and those made anew, with the vectors of both that are of unit length."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = [one for one in layout if not one.name.startswith(VECTOR_PREFIX)]
    made_rows = pa.Table.from_pylist(list(made), schema=pa.schema(plain))
    stay = everything.take(pa.array(kept, pa.int64()))
    positions = pa.array([*kept, *(row[ROW_ID] for row in made)], pa.int64())
    columns = {}
    for one in layout:
        if not one.name.startswith(VECTOR_PREFIX):
            columns[one.name] = pa.chunked_array(
                [*stay.column(one.name).chunks, *made_rows.column(one.name).chunks], one.type
            )
            continue
        vectors = everything.column(one.name).combine_chunks()
        fine = np.append(are_units(vectors), False)
        is_fine = fine[pc.fill_null(positions, len(vectors)).to_numpy()]
        columns[one.name] = vectors.take(pc.if_else(pa.array(is_fine), positions, None))
    return pa.Table.from_arrays([columns[one.name] for one in layout], schema=layout)
