"""Fusion: what the legs say of each memory, made into one score. Pure functions on arrays.

The legs' scores are put on one scale by how far each stands above what else the query finds, so
that a leg counts for more on the queries where its best stands out. Ranks would throw that away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]

HALF_LIFE = 30.0
"""Days after which a memory's gain by recency has halved."""

MILD_RECENCY = 2.0
"""About what a match four standard deviations out gains by another quarter: a tie-breaker."""

NEIGHBOURS = ((1, 1.0), (2, 0.7), (3, 0.5))
"""How far off a neighbouring turn may stand, and what part of its evidence counts then."""


_ROUNDING = 1e-6
"""What differs by less, relative to the largest, is equal but for rounding to float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """What may be fitted per store and model; the defaults serve every store.

    pool    how many of the best memories a score is measured against
    vector  weight of the vectors against the words, 0 to 1
    power   above 1, a leg counts for more where its best stands out
    session share of the best score in its session that a memory gains
    window  share of its neighbours' scores that a memory gains
    length  what part of its luck a memory of many passages pays back, 0 to 1
    recency what a memory of this moment gains, and one of a month ago half of; 0 is off
    """

    pool: int = 200
    vector: float = 0.45
    power: float = 2.0
    session: float = 0.3
    window: float = 0.1
    length: float = 1.0
    recency: float = 0.0


def best_of_passages(rows: Floats, first: Integers) -> Floats:
    """(r,) scores of passages, (n + 1,) where each memory's begin -> (n,) the best of each."""
    import numpy as np

    best: Floats = np.maximum.reduceat(rows, first[:-1]) if len(rows) else rows
    return best


def luck_of_length(rows: Floats, first: Integers) -> Floats:
    """(r,) scores of passages, (n + 1,) where each memory's begin -> (n,) luck in the best of each.

    The best of many passages stands above their mean by chance alone: by the expected maximum of
    so many normal variables (Blom 1958) times the deviation of passages within their memories.
    """
    import numpy as np

    counts = np.diff(first)
    several = counts > 1
    if not several.any():
        return np.zeros(len(counts), np.float32)
    means = np.add.reduceat(rows, first[:-1]) / counts
    squares = np.add.reduceat((rows - np.repeat(means, counts)) ** 2, first[:-1])
    deviation = np.sqrt(squares[several].sum() / (counts[several] - 1).sum())
    sizes, position = np.unique(counts, return_inverse=True)
    expected = np.array([expected_maximum(size) for size in sizes.tolist()], np.float32)
    luck: Floats = (deviation * expected[position]).astype(np.float32)
    return luck


@lru_cache(maxsize=4096)
def expected_maximum(count: int) -> float:
    """The expected largest of `count` standard normal variables, within 0.5%.

    Blom's formula (1958); his constant of 0.375 is 4.6% off at two, so it is lessened for few.
    """
    constant = 0.375 - 0.09 / count
    share = (count - constant) / (count + 1 - 2 * constant)
    return NormalDist().inv_cdf(share) if count > 1 else 0.0


def standard_scores(scores: Floats, pool: int) -> Floats:
    """(n,) scores -> (n,) distances from the mean of the best `pool`, in their deviations.

    Measured against so many of the best and no more, a score means the same in a store of
    hundreds and of millions.
    """
    import numpy as np

    if not len(scores):
        return scores
    count = min(pool, len(scores))
    best = np.partition(scores, len(scores) - count)[-count:].astype(np.float64)
    deviation = float(best.std())
    if deviation <= max(1e-9, _ROUNDING * float(np.abs(best).max())):
        return np.zeros_like(scores)
    standard: Floats = ((scores - best.mean()) / deviation).astype(np.float32)
    return standard


def sharpened(scores: Floats, power: float) -> Floats:
    """Standard scores to a power, their signs kept."""
    import numpy as np

    return (np.sign(scores) * np.abs(scores) ** power).astype(np.float32)


def leg(rows: Floats, first: Integers, fusion: Fusion) -> Floats:
    """(r,) BM25 scores or cosines of passages -> (n,) standard scores of their memories."""
    scores = best_of_passages(rows, first) - fusion.length * luck_of_length(rows, first)
    return standard_scores(scores, fusion.pool)


def blended(text: Floats, vector: Floats | None, fusion: Fusion) -> Floats:
    """(n,) standard scores of the legs -> (n,) fused; without vectors the words speak alone."""
    by_text = sharpened(text, fusion.power)
    if vector is None:
        return by_text
    return fusion.vector * sharpened(vector, fusion.power) + (1 - fusion.vector) * by_text


def with_recency(scores: Floats, ages: Floats, fusion: Fusion) -> Floats:
    """Add what recent memories gain: (n,) scores and (n,) ages in days, NaN where unknown."""
    import numpy as np

    if not fusion.recency:
        return scores
    share = np.exp2(-np.maximum(np.nan_to_num(ages, nan=np.inf), 0) / HALF_LIFE)
    return (scores + fusion.recency * share).astype(np.float32)


def with_session_evidence(
    scores: Floats, sessions: Integers, positions: Integers, fusion: Fusion
) -> Floats:
    """Add what a memory's session and neighbouring turns say for it.

    (n,) scores, (n,) session numbers, equal within a session and -1 without one, and (n,) rising
    positions, which differ by one between neighbouring turns. A question is often put in one turn
    and answered in the next.
    """
    import numpy as np

    if not len(scores):
        return scores
    numbers, members = np.unique(sessions, return_inverse=True)
    best = np.full(len(numbers), -np.inf, np.float32)
    np.maximum.at(best, members, scores)
    # A memory without a session gains what a session of its own would give it.
    gain = fusion.session * np.where(sessions >= 0, best[members], scores)
    evidence = np.maximum(scores, 0)
    shares = np.zeros(len(NEIGHBOURS) + 2, np.float32)
    shares[1:-1] = [share for _, share in NEIGHBOURS]
    # As positions rise, a neighbour is at most as many entries off as it is turns.
    for entries in range(1, min(len(NEIGHBOURS) + 1, len(scores))):
        turns = np.minimum(positions[entries:] - positions[:-entries], len(shares) - 1)
        together = (sessions[entries:] == sessions[:-entries]) & (sessions[entries:] >= 0)
        weight = fusion.window * shares[turns] * together
        gain[entries:] += weight * evidence[:-entries]
        gain[:-entries] += weight * evidence[entries:]
    return (scores + gain).astype(np.float32)
