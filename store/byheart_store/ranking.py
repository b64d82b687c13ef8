"""From evidence to an order: fusion, diversity, relevance. Pure functions on arrays.

Higher is better, always. Ties are broken by place, so that results repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.evidence import Evidence
from byheart_store.fusion import (
    Fusion,
    best_of_passages,
    blended,
    text_scores,
    vector_scores,
    with_session_evidence,
)
from byheart_store.records import Explanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]

UNKNOWN_COSINE = -1.0


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
            vector_rank=_rank_of(self.cosines, place, worst=UNKNOWN_COSINE),
            cosine=_value_of(self.cosines, place, worst=UNKNOWN_COSINE),
            score=float(self.scores[place]),
        )


def rank(evidence: Evidence, limit: int, fusion: Fusion) -> Ranking:
    """Fuse what the legs say of n memories and take the best `limit`."""
    import numpy as np

    first = evidence.first
    text = vector = text_best = cosines = None
    rows = np.zeros(len(evidence.rows), np.float32)
    if evidence.text is not None and evidence.context is not None:
        text = text_scores(evidence.text, evidence.context, first, fusion)
        text_best = best_of_passages(evidence.text, first)
        rows += (1 - fusion.vector) * _standard(evidence.text)
    if evidence.cosines is not None:
        passages = np.nan_to_num(evidence.cosines, nan=UNKNOWN_COSINE)
        vector = vector_scores(passages, first, fusion)
        cosines = best_of_passages(passages, first)
        rows += fusion.vector * _standard(passages)
    scores = with_session_evidence(blended(text, vector, fusion), evidence.sessions, fusion)
    relevance = _relevance(scores, cosines)
    places = np.argsort(-scores, kind="stable")[:limit].tolist()
    no_match = max((float(relevance[place]) for place in places), default=0.0) < 0.5
    best = _best_passages(rows, first)
    return Ranking(places, scores, relevance, text_best, cosines, best, no_match)


def _standard(rows: Floats) -> Floats:
    deviation = float(rows.std()) if len(rows) else 0.0
    return rows / deviation if deviation > 0 else rows


def _best_passages(rows: Floats, first: Integers) -> Integers:
    """(r,) scores of passages -> (n,) the number of the best of each memory."""
    import numpy as np

    pairs = zip(first[:-1].tolist(), first[1:].tolist(), strict=True)
    return np.array([int(rows[low:high].argmax()) for low, high in pairs], np.int64)


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
