"""Whether the rows of memories agree with each other, and each text with its digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store.tables.rows import digest_of
from byheart_store.tables.schema import VECTOR_PREFIX

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Row: TypeAlias = dict[str, Any]

UNIT_TOLERANCE = 1e-3
"""How far the length of a vector may be from one."""

CHECKED_COLUMNS = ("id", "passage", "start", "end", "text", "digest", "namespace", "session")


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
        if not is_verified(first):
            altered.add(name)
        elif not is_whole(passages):
            lacking.add(name)
    wrong = sum(int((~is_unit).sum()) for is_unit in map(are_units, vector_columns(rows)))
    return Checked(frozenset(altered), frozenset(lacking), frozenset(headless), memories, wrong)


def by_memory(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each memory in the order of its passages."""
    ordered = sorted(rows, key=lambda row: (row["id"], row["passage"]))
    for name, passages in groupby(ordered, key=lambda row: row["id"]):
        yield name, list(passages)


def is_verified(first: Mapping[str, Any]) -> bool:
    """Whether the text of a memory's first row is what its digest says."""
    return bool(digest_of(first["namespace"], first["session"], first["text"]) == first["digest"])


def is_whole(passages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the passages are all there and leave out nothing but spaces."""
    text, end_so_far = passages[0]["text"], 0
    for number, row in enumerate(passages):
        start, end = row["start"], row["end"]
        if row["passage"] != number or start is None or end is None or start < 0 or end < start:
            return False
        if text[end_so_far:start].strip():
            return False
        end_so_far = end
    return end_so_far <= len(text) and not text[end_so_far:].strip()


def vector_columns(rows: pa.Table) -> list[pa.Array]:
    """The columns of vectors, a model each."""
    return [
        rows.column(name).combine_chunks()
        for name in rows.column_names
        if name.startswith(VECTOR_PREFIX)
    ]


def are_units(vectors: pa.FixedSizeListArray) -> NDArray[np.bool_]:
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
