"""The indexes of the memories: words always, vectors and look-ups once brute force is slower.

Up to some ten thousand rows every cosine is worked out faster than an index is asked, and exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from byheart_store.tables.schema import SEARCHED, Description, create_text_index

if TYPE_CHECKING:
    from lancedb.table import AsyncTable

INDEXED_FROM = 25_000
"""Rows from which an index of the vectors pays."""

MOST_SEGMENTS = 20
"""Each compaction adds a segment to the index of vectors, and each segment is asked by itself."""

LOOKED_UP = ("namespace", "id", "digest")
"""Columns that a write or a filter looks rows up by."""


async def wanted(memories: AsyncTable, description: Description) -> list[str]:
    """The columns that lack an index or whose index is in too many pieces."""
    if await memories.count_rows() < INDEXED_FROM:
        return []
    found = await memories.list_indices()
    segments = {index.columns[0]: index.num_segments or 0 for index in found}
    vectors = [name for name in {description.active, description.pending} if name is not None]
    return [
        *(column for column in LOOKED_UP if column not in segments),
        *(column for column in vectors if segments.get(column, 0) > MOST_SEGMENTS),
        *[c for c in vectors if c not in segments and await _is_filled(memories, c)],
    ]


async def _is_filled(memories: AsyncTable, column: str) -> bool:
    """Whether there are vectors enough to learn from how they lie."""
    return await memories.count_rows(f"{column} IS NOT NULL") >= INDEXED_FROM


async def create(memories: AsyncTable, column: str) -> None:
    """Index a column for look-ups or of vectors, in place of the index that it has.

    Raises:
        RuntimeError: a commit of another writer got in its way; the index is as it was.
    """
    await memories.create_index(column, config=_kind(column))


async def renew(memories: AsyncTable) -> None:
    """Make every index anew, of the rows that are there. To be called inside `write`."""
    await create_text_index(memories, anew=True)
    for index in await memories.list_indices():
        if index.columns != [SEARCHED]:
            await create(memories, index.columns[0])


def _kind(column: str) -> Any:
    from lancedb.index import Bitmap, BTree, IvfSq

    if column == "namespace":
        return Bitmap()
    # The vectors are of unit length. An index for cosines tells distances on another scale than
    # those of the rows that it does not hold yet, and the two are merged as if they were one.
    return BTree() if column in LOOKED_UP else IvfSq(distance_type="l2")
