"""Reading what can be read of damaged tables, and making whole memories of it.

Of each memory the first row carries everything, and a digest of its text. The other rows, the
words to be searched and the vectors are derived from it, so whatever is damaged of these is made
anew, and a first row read from a damaged file can be verified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store.models.passages import Span, split_passages
from byheart_store.records import now
from byheart_store.tables.lance_manifest import Fragment
from byheart_store.tables.rows import (
    CONVERSATION_ORDER,
    Draft,
    digest_of,
    memory_of,
    rows_of,
    searched_anew,
)
from byheart_store.tables.schema import MEMORY_COLUMNS, SEARCHED

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import AsyncTable
    from numpy.typing import NDArray

    Row: TypeAlias = dict[str, Any]

ROW_ID = "_rowid"
VECTOR_PREFIX = "vector_"

UNIT_TOLERANCE = 1e-3
"""How far the length of a vector may be from one."""

CHECKED_COLUMNS = ("id", "passage", "start", "end", "text", "digest", "namespace", "session")
SEARCH_COLUMNS = (*CONVERSATION_ORDER, "start", "end", "speaker", "text")

_PROBES = 5
"""Rows of a range that are tried before it is given up as a whole."""


@dataclass(frozen=True, slots=True)
class Read:
    """Rows as they were read: of sound files with all columns, and what damaged ones yield.

    What could not be read of a damaged row is null. `unread` rows are lost as a whole.
    """

    sound: pa.Table
    damaged: pa.Table
    unread: int

    def with_earlier(self, rows: pa.Table) -> Read:
        """The same with rows of an earlier version in the place of those that were damaged."""
        import pyarrow as pa

        again = set(rows.column("id").to_pylist())
        ids = self.damaged.column("id").to_pylist() if len(self.damaged) else []
        stay = pa.array([name not in again for name in ids], pa.bool_())
        rows = _marked_as_replaced(rows, [self.damaged, self.sound])
        sound = pa.concat_tables([self.sound, rows], promote_options="default")
        return Read(sound, self.damaged.filter(stay), 0)


async def read_rows(table: AsyncTable, fragments: Iterable[Fragment], damaged: set[str]) -> Read:
    """Read a table of which some files are damaged.

    Raises:
        RuntimeError, OSError: sound files can't be read either.
    """
    import pyarrow as pa

    layout = await table.schema()
    fields = [pa.field(one.name, one.type) for one in layout]
    nothing = pa.schema([pa.field(ROW_ID, pa.uint64()), *fields]).empty_table()
    hit = {part.number: part for part in fragments if not damaged.isdisjoint(part.names())}
    if not hit:
        rows = await table.query().with_row_id().to_arrow()
        return Read(rows, nothing, 0)
    ids = (await table.query().select([ROW_ID]).to_arrow()).column(ROW_ID).to_pylist()
    others = [one for one in ids if one >> 32 not in hit]
    sound = await _taken(table, others, layout.names) if others else nothing
    read, unread = [nothing], 0
    for number, part in hit.items():
        own = sorted(one for one in ids if one >> 32 == number)
        rows = await _of_damaged(table, own, _readable_columns(part, damaged, layout.names))
        unread += len(own) - len(rows)
        read.append(rows)
    return Read(sound, pa.concat_tables(read, promote_options="default"), unread)


def _readable_columns(part: Fragment, damaged: set[str], names: Sequence[str]) -> list[str]:
    """Sound columns first, so that they tell which rows there are."""
    lost = {name for file in part.files if file.name in damaged for name in file.columns}
    return sorted(names, key=lambda name: name in lost)


async def _taken(table: AsyncTable, ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
    return await table.take_row_ids(list(ids)).with_row_id().select(list(columns)).to_arrow()


async def _tried(table: AsyncTable, ids: Sequence[int], columns: Sequence[str]) -> pa.Table | None:
    """The rows, or None where the engine stumbles over what it reads."""
    try:
        rows = await _taken(table, ids, columns)
        rows.validate(full=True)
    except (RuntimeError, OSError, ValueError):
        return None
    except BaseException as error:
        if not is_panic(error):
            raise
        return None
    return rows if len(rows) == len(ids) else None


def is_panic(error: BaseException) -> bool:
    """Whether the engine, which is written in Rust, has panicked, at once or in a task."""
    return type(error).__name__ in ("PanicException", "RustPanic")


async def _of_damaged(table: AsyncTable, ids: list[int], columns: Sequence[str]) -> pa.Table:
    """The rows of which anything can be read, with nulls for what can't."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = await _tried(table, ids, columns) if ids else None
    if whole is not None:
        return whole
    wanted = pa.array(ids, pa.uint64())
    found: dict[str, pa.ChunkedArray] = {}
    for column in columns:
        parts = await _parts(table, ids, [column])
        if parts:
            rows = pa.concat_tables(parts)
            places = pc.index_in(wanted, value_set=rows.column(ROW_ID).combine_chunks())
            found[column] = rows.column(column).take(places)
    if not found:
        return pa.table({ROW_ID: pa.array([], pa.uint64())})
    return pa.table({ROW_ID: wanted} | found)


async def _parts(table: AsyncTable, ids: list[int], columns: list[str]) -> list[pa.Table]:
    """The ranges that can be read, found by halving those that can't."""
    rows = await _tried(table, ids, columns)
    if rows is not None:
        return [rows]
    if len(ids) > _PROBES:
        probes = [ids[len(ids) * number // _PROBES] for number in range(_PROBES)]
        if not any([await _tried(table, [one], columns) for one in probes]):
            return []
    if len(ids) == 1:
        return []
    middle = len(ids) // 2
    return [
        part for half in (ids[:middle], ids[middle:]) for part in await _parts(table, half, columns)
    ]


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with the rows of sound files, by the memories' ids.

    `altered` have another text than their digest says, `lacking` not all passages, `headless`
    no first row. `vectors` counts those that no model can have made.
    """

    altered: frozenset[str]
    lacking: frozenset[str]
    headless: frozenset[str]
    memories: int
    vectors: int

    @property
    def bad(self) -> frozenset[str]:
        """All memories with something wrong about their rows."""
        return self.altered | self.lacking | self.headless


def check_rows(rows: pa.Table) -> Checked:
    """Check rows against each other, and each text against its digest."""
    altered, lacking, headless = set(), set(), set()
    memories = 0
    for name, passages in by_memory(rows.select(CHECKED_COLUMNS).to_pylist()):
        first = passages[0]
        if first["passage"] != 0 or first["text"] is None:
            headless.add(name)
            continue
        memories += 1
        if not _is_verified(first):
            altered.add(name)
        elif not _is_whole(passages):
            lacking.add(name)
    wrong = sum(int((~is_unit).sum()) for is_unit in map(_units, vector_columns(rows)))
    return Checked(frozenset(altered), frozenset(lacking), frozenset(headless), memories, wrong)


def by_memory(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each memory in the order of its passages."""
    ordered = sorted(rows, key=lambda row: (row["id"], row["passage"]))
    for name, passages in groupby(ordered, key=lambda row: row["id"]):
        yield name, list(passages)


def _is_verified(first: Mapping[str, Any]) -> bool:
    return bool(digest_of(first["namespace"], first["session"], first["text"]) == first["digest"])


def _is_whole(passages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the passages are all there and leave out nothing but spaces."""
    text, place = passages[0]["text"], 0
    for number, row in enumerate(passages):
        start, end = row["start"], row["end"]
        if row["passage"] != number or start is None or end is None or start < 0 or end < start:
            return False
        if text[place:start].strip():
            return False
        place = end
    return place <= len(text) and not text[place:].strip()


def vector_columns(rows: pa.Table) -> list[pa.Array]:
    """The columns of vectors, a model each."""
    return [
        rows.column(name).combine_chunks()
        for name in rows.column_names
        if name.startswith(VECTOR_PREFIX)
    ]


def _units(vectors: pa.FixedSizeListArray) -> NDArray[np.bool_]:
    """(n,) whether each of n vectors has unit length, or is yet to be made."""
    import numpy as np

    present = vectors.is_valid().to_numpy(zero_copy_only=False)
    flat = vectors.drop_null().flatten().to_numpy(zero_copy_only=False)
    rows = flat.reshape(-1, vectors.type.list_size)
    fine = np.ones(len(vectors), bool)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        fine[present] = np.abs(lengths - 1) <= UNIT_TOLERANCE
    return fine


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
    # Of two rows for one passage that of the later fragment counts, which has taken its place.
    numbers = everything.column(ROW_ID).fill_null(0).to_pylist()
    own = [place for place, name in enumerate(ids) if name in anew]
    own.sort(key=lambda place: -numbers[place])
    kept = [place for place in range(len(read.sound)) if ids[place] not in anew]
    candidates = everything.select(names).take(pa.array(own, pa.int64())).to_pylist()
    for place, row in zip(own, candidates, strict=True):
        row[ROW_ID] = place
    rebuilt = Rebuilt(everything)
    heads = _verified_heads(candidates, rebuilt, hit)
    around = everything.select(SEARCH_COLUMNS)
    made = _made_anew(heads, candidates, around.take(pa.array(kept, pa.int64())).to_pylist)
    rebuilt.rows = _arranged(everything, kept, made, layout)
    return rebuilt


def _verified_heads(candidates: Iterable[Row], rebuilt: Rebuilt, hit: set[str]) -> list[Row]:
    heads: list[Row] = []
    candidates = [row | {"passage": _passage(row)} for row in candidates if row["id"] is not None]
    for name, rows in by_memory(candidates):
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
    return row["digest"] is None or _is_verified(row)


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
    heads: Sequence[Row], candidates: Iterable[Row], around: Callable[[], list[Row]]
) -> list[Row]:
    """All rows of the memories, each with the place of its former self as its row id."""
    if not heads:
        return []
    former: dict[tuple[str, int], Row] = {}
    for row in candidates:
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
    if _is_whole(passages):
        return [Span(row["start"], row["end"]) for row in passages]
    return split_passages(head["text"])


def _search_anew(rows: Sequence[Row], around: Callable[[], list[Row]]) -> None:
    """Put the turns before into what is searched of the turns of sessions."""
    in_session = {(row["namespace"], row["session"]) for row in rows if row["session"] is not None}
    if not in_session:
        return
    neighbours = (row for row in around() if (row["namespace"], row["session"]) in in_session)
    whole = [*(row for row in rows if row["session"] is not None), *neighbours]
    whole.sort(key=_place)
    found = {(row["id"], row["passage"]): text for row, text in searched_anew(whole)}
    for row in rows:
        row[SEARCHED] = found.get((row["id"], row["passage"]), row[SEARCHED])


def _place(row: Row) -> list[Any]:
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
    places = pa.array([*kept, *(row[ROW_ID] for row in made)], pa.int64())
    columns = {}
    for one in layout:
        if not one.name.startswith(VECTOR_PREFIX):
            columns[one.name] = pa.chunked_array(
                [*stay.column(one.name).chunks, *made_rows.column(one.name).chunks], one.type
            )
            continue
        vectors = everything.column(one.name).combine_chunks()
        fine = np.append(_units(vectors), False)
        is_fine = fine[pc.fill_null(places, len(vectors)).to_numpy()]
        columns[one.name] = vectors.take(pc.if_else(pa.array(is_fine), places, None))
    return pa.Table.from_arrays([columns[one.name] for one in layout], schema=layout)


async def read_earlier(
    versions: Iterable[AsyncTable], read: Read, checked_lost: set[str]
) -> pa.Table | None:
    """Rows of an earlier version that stand for those that can't be read any more.

    A memory that is known to be there is taken from it. Rows of which nothing is known are taken
    only where they are as many as were lost: otherwise some of them may have been forgotten.
    """
    import pyarrow as pa

    keys = [*_keys(read.sound), *_keys(read.damaged)]
    known = {key for key in keys if None not in key}
    nameless = read.unread + len(keys) - sum(None not in key for key in keys)
    if not nameless and not checked_lost:
        return None
    for version in versions:
        try:
            rows = await version.query().to_arrow()
        except (RuntimeError, OSError):
            continue
        earlier = _keys(rows)
        strangers = [place for place, key in enumerate(earlier) if key not in known]
        taken = strangers if len(strangers) == nameless else []
        named = [place for place, key in enumerate(earlier) if key[0] in checked_lost]
        if taken or named:
            return rows.take(pa.array(sorted({*taken, *named}), pa.int64()))
    return None


def _keys(rows: pa.Table) -> list[tuple[str | None, int | None]]:
    if "id" not in rows.column_names or "passage" not in rows.column_names:
        return [(None, None)] * len(rows)
    ids, passages = rows.column("id").to_pylist(), rows.column("passage").to_pylist()
    return list(zip(ids, passages, strict=True))


def without_gaps(rows: pa.Table, layout: pa.Schema) -> pa.Table:
    """The rows that have a value in every column that needs one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not set(layout.names) <= set(rows.column_names):
        return layout.empty_table()
    whole = pa.array([True] * len(rows), pa.bool_())
    for one in layout:
        if not one.nullable:
            whole = pc.and_(whole, rows.column(one.name).combine_chunks().is_valid())
    return rows.select(layout.names).filter(whole).cast(layout)


def _marked_as_replaced(rows: pa.Table, others: Iterable[pa.Table]) -> pa.Table:
    """Rows of an earlier version, with the marks of what has replaced them since."""
    import pyarrow as pa

    later = {
        row["replaces"]: row
        for other in others
        for row in other.select(["id", "replaces", "created"]).to_pylist()
        if row["id"] and row["replaces"]
    }
    for name, value in (("replaced_by", "id"), ("replaced_at", "created")):
        place = rows.schema.get_field_index(name)
        values = [
            former if former is not None or own not in later else later[own][value]
            for own, former in zip(*rows.select(["id", name]).to_pydict().values(), strict=True)
        ]
        rows = rows.set_column(place, name, pa.array(values, rows.schema.field(place).type))
    return rows
