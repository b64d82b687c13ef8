"""Ranking as pure functions on arrays: folding, fusion, diversity, relevance.

Higher is better, always. Ties are broken by place, so that results repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.evidence import Evidence
from byheart_store.records import Explanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]

VECTOR_WEIGHT = 0.6
"""What the vectors count for beside the words, each as a standard score."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best of n memories in order (`places`), and what is known of each, as (n,) arrays."""

    places: list[int]
    scores: Floats
    relevance: Floats
    text: Floats | None
    cosines: Floats | None
    best_passages: Integers
    no_match: bool

    def explain(self, place: int) -> Explanation:
        """Why the memory at this place stands where it stands."""
        return Explanation(
            text_rank=_rank_of(self.text, place, worst=0.0),
            text_score=_value_of(self.text, place, worst=0.0),
            vector_rank=_rank_of(self.cosines, place, worst=-1.0),
            cosine=_value_of(self.cosines, place, worst=-1.0),
            score=float(self.scores[place]),
        )


def standard_scores(scores: Floats) -> Floats:
    """(n,) scores -> (n,) with mean 0 and deviation 1; all zeros where they are all the same."""
    import numpy as np

    deviation = scores.std() if len(scores) else 0.0
    if deviation < 1e-9:
        return np.zeros_like(scores)
    standard: Floats = (scores - scores.mean()) / deviation
    return standard


def rank(evidence: Evidence, limit: int) -> Ranking:
    """Fuse what the legs say of n memories and take the best `limit`."""
    import numpy as np

    count = len(evidence)
    scores = np.zeros(count, np.float32)
    text = cosines = None
    best = np.zeros(count, np.int64)
    if evidence.text is not None and evidence.context is not None:
        text = _folded(evidence.text, evidence)
        context = _folded(evidence.context, evidence)
        scores += (1 - VECTOR_WEIGHT) * (standard_scores(text) + standard_scores(context))
        best = _best_passages(evidence.text, evidence)
    if evidence.cosines is not None:
        passages = np.nan_to_num(evidence.cosines, nan=-1.0)
        cosines = _folded(passages, evidence)
        scores += VECTOR_WEIGHT * standard_scores(cosines)
        best = _best_passages(passages, evidence)
    relevance = _relevance(scores, cosines)
    places = np.argsort(-scores, kind="stable")[:limit].tolist()
    no_match = max((float(relevance[place]) for place in places), default=0.0) < 0.5
    return Ranking(places, scores, relevance, text, cosines, best, no_match)


def _folded(rows: Floats, evidence: Evidence) -> Floats:
    """(r,) scores of passages -> (n,) the best of each memory."""
    import numpy as np

    return np.maximum.reduceat(rows, evidence.first[:-1]) if len(rows) else rows


def _best_passages(rows: Floats, evidence: Evidence) -> Integers:
    """(r,) scores of passages -> (n,) the number of the best of each memory."""
    import numpy as np

    best = [
        int(rows[low:high].argmax())
        for low, high in zip(evidence.first[:-1], evidence.first[1:], strict=True)
    ]
    return np.array(best, np.int64)


def _relevance(scores: Floats, cosines: Floats | None) -> Floats:
    import numpy as np

    if cosines is None:
        return np.clip(scores / 8, 0, 1)
    return (1 / (1 + np.exp(5 - 12 * cosines))).astype(np.float32)


def _value_of(scores: Floats | None, place: int, worst: float) -> float | None:
    if scores is None or scores[place] <= worst:
        return None
    return float(scores[place])


def _rank_of(scores: Floats | None, place: int, worst: float) -> int | None:
    if scores is None or scores[place] <= worst:
        return None
    return int((scores > scores[place]).sum()) + 1
