"""Ranking as pure functions on arrays: fusion, diversity, relevance. Higher is better, always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.candidates import Candidates
from byheart_store.records import Explanation, Mode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]


def ranks(scores: Floats) -> Floats:
    """(n,) scores -> (n,) ranks from 1, ties by place; infinite where the score is NaN or -inf."""
    import numpy as np

    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    result = np.empty(len(scores), np.float32)
    result[order] = np.arange(1, len(scores) + 1, dtype=np.float32)
    result[~np.isfinite(scores)] = np.inf
    return result


def reciprocal_rank_fusion(
    rankings: Sequence[Floats], weights: Sequence[float], constant: float
) -> Floats:
    """Weighted RRF: sum of w / (k + rank) over the rankings (Cormack, Clarke, Buettcher 2009)."""
    import numpy as np

    fused = np.zeros(len(rankings[0]), np.float32)
    for ranking, weight in zip(rankings, weights, strict=True):
        fused += np.float32(weight) / (np.float32(constant) + ranking)
    return fused


def maximal_marginal_relevance(
    scores: Floats, vectors: Floats, limit: int, balance: float
) -> list[int]:
    """Places in the order of greedy MMR (Carbonell and Goldstein 1998).

    (n,) scores in [0, 1] and (n, d) unit vectors; `balance` 1 is the order of the scores, 0 that
    of the largest distance from what stands already. Ties go to the better score, then place.
    """
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    nearest = np.zeros(len(scores), np.float32)
    left = list(order)
    chosen: list[int] = []
    while left and len(chosen) < limit:
        gains = [balance * scores[place] - (1 - balance) * nearest[place] for place in left]
        place = left.pop(int(np.argmax(gains)))
        chosen.append(int(place))
        nearest = np.maximum(nearest, vectors @ vectors[place])
    return chosen


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best places in order, and what is known of every candidate, as (n,) arrays."""

    places: list[int]
    scores: Floats
    relevance: Floats
    text_ranks: Floats
    vector_ranks: Floats
    no_match: bool

    def explain(self, candidates: Candidates, place: int) -> Explanation:
        """Why the candidate at this place stands where it stands."""
        text, cosine = float(candidates.text[place]), float(candidates.cosine[place])
        return Explanation(
            text_rank=int(self.text_ranks[place]) if text > 0 else None,
            text_score=text if text > 0 else None,
            vector_rank=int(self.vector_ranks[place]) if cosine == cosine else None,
            cosine=cosine if cosine == cosine else None,
            score=float(self.scores[place]),
        )


def rank(candidates: Candidates, limit: int, mode: Mode) -> Ranking:
    """Fuse, diversify and judge the candidates."""
    import numpy as np

    text = np.where(
        candidates.text + candidates.context > 0, candidates.text + 0.3 * candidates.context, np.nan
    )
    tr, vr = ranks(text), ranks(candidates.cosine)
    scores = reciprocal_rank_fusion([tr, vr], [0.7, 0.3], 10.0)
    top = scores.max() if len(scores) else 1.0
    places = maximal_marginal_relevance(scores / top, candidates.vectors, limit, 0.95)
    relevance = 1 / (1 + np.exp(-(12 * np.nan_to_num(candidates.cosine) - 5)))
    no_match = not len(places) or bool(max(relevance[places]) < 0.5)
    return Ranking(places, scores, relevance, tr, vr, no_match)
