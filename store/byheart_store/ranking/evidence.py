"""What a recall ranks by: the scores that each leg gives the memories, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]


UNKNOWN_COSINE = -1.0
"""The cosine of a passage that has no vector."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """n memories with their r passages, in the order of the snapshot, out of all `admitted`.

    `memories` (n,) are their positions in the snapshot, where neighbouring turns of a session
    differ by one, `sessions` (n,) their sessions' numbers, -1 without one, `ages` (n,) the days
    since they happened, NaN where unknown. `first` (n + 1,) is where the passages of each begin,
    `rows` (r,) the passages' positions in the snapshot. `text` (r,) are BM25 scores, 0 where no
    word was found, of which no text could exceed `most_text`. `cosines` (r,) are -1 where a
    passage has no vector.
    Both are None where they were not asked. A candidate of one leg that is not among the best of
    the other has the score of the last of those there.
    """

    memories: Integers
    sessions: Integers
    ages: Floats
    first: Integers
    rows: Integers
    admitted: int
    most_text: float
    text: Floats | None
    cosines: Floats | None

    def __len__(self) -> int:
        return len(self.memories)

    def with_cosines(self, passages: Integers, cosines: Floats) -> Evidence:
        """The same with the (k,) cosines of some of its passages, by their positions in `rows`."""
        if self.cosines is None:
            return self
        known = self.cosines.copy()
        known[passages] = cosines
        return replace(self, cosines=known)
