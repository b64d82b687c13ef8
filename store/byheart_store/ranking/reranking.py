"""Reranking: the top of a list put in order by a model that reads query and passage together.

Pure functions on arrays. The reranker's word is blended with the first stage's: learnt from few
labels, it sees what an embedding can't, but alone it ranks worse than both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranking:
    """What may be fitted per model; a weight of 0 is no reranking.

    weight  of the reranker against the first stage, 0 to 1
    depth   how many of the best memories are read, at the most
    tokens  how many tokens are read, at the most: what a recall may cost
    """

    weight: float = 0.0
    depth: int = 16
    tokens: int = 800


def reranked(scores: Floats, positions: Integers, read: Floats, weight: float) -> Floats:
    """(n,) scores, of which those at (k,) positions were read again, (k,) -> (n,) scores.

    Both are stretched to 0..1 among the positions and averaged by weight; the first stage's by its
    root, since fusion has sharpened it to a power. The sum is put back where the positions' scores
    were, so that the others keep their distance to them.
    """
    import numpy as np

    if not weight or len(positions) < 2:
        return scores
    before = scores[positions]
    low, high = before.min(), before.max()
    blend = (1 - weight) * np.sqrt(_stretched(before)) + weight * _stretched(read)
    after = np.array(scores, np.float32)
    after[positions] = low + (high - low) * blend
    return after


def readable(lengths: Sequence[int], tokens: int) -> int:
    """Tokens of k pairs in rank order -> how many of them can be read for so many in all.

    At least two, or there would be nothing to put in order.
    """
    spent = accumulate(lengths)
    return min(len(lengths), max(2, sum(so_far <= tokens for so_far in spent)))


def _stretched(scores: Floats) -> Floats:
    import numpy as np

    low, spread = scores.min(), float(np.ptp(scores))
    stretched: Floats = (scores - low) / spread if spread > 0 else np.zeros_like(scores)
    return stretched
