"""From evidence to an order: fusion, diversity, relevance. Pure functions on arrays.

Higher is better, always. Ties are broken by position, so that results repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.ranking.diversity import diversified
from byheart_store.ranking.evidence import UNKNOWN_COSINE, Evidence
from byheart_store.ranking.fusion import (
    Fusion,
    best_of_passages,
    blended,
    leg,
    with_recency,
    with_session_evidence,
)
from byheart_store.ranking.relevance import NEAREST_CONSIDERED, Calibration
from byheart_store.ranking.tuning import Tuning
from byheart_store.records import Explanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]


SPARE_HITS = 30
"""So many more than wanted stand for choice: a restatement needs something to yield to."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best of n memories in order (`positions`), each with its relevance; the rest explains.

    `passages` are the numbers of their best passages. `scores`, `text` and `cosines` (n,) are those
    of all memories. `answerable` is the probability that any memory answers.
    """

    positions: list[int]
    passages: list[int]
    relevance: list[float]
    answerable: float
    no_match: bool
    scores: Floats
    text: Floats | None
    cosines: Floats | None

    def explanations(self) -> list[Explanation]:
        """Why each of the best memories stands where it stands, in their order."""
        text_ranks = _ranks(self.text, self.positions)
        vector_ranks = _ranks(self.cosines, self.positions)
        explained = []
        for number, position in enumerate(self.positions):
            text = _value(self.text, position, worst=0.0)
            cosine = _value(self.cosines, position, worst=UNKNOWN_COSINE)
            explained.append(
                Explanation(
                    text_rank=None if text is None else text_ranks[number],
                    text_score=text,
                    vector_rank=None if cosine is None else vector_ranks[number],
                    cosine=cosine,
                    score=float(self.scores[position]),
                )
            )
        return explained


@dataclass(frozen=True, slots=True)
class Pool:
    """(k,) positions of the best memories, best first, and the row of each one's best passage."""

    positions: Integers
    rows: Integers


def pooled(evidence: Evidence, scores: Floats, limit: int, fusion: Fusion) -> Pool:
    """Of n memories with (n,) scores those of which the best `limit` that differ are chosen."""
    positions = ordered(evidence, scores, limit + SPARE_HITS)
    return Pool(positions, _best_rows(_passages(evidence, fusion), evidence.first, positions))


def with_nearest(evidence: Evidence, pool: Pool) -> Integers:
    """The rows of a pool and of the nearest passages, which tell whether any answers."""
    import numpy as np

    if evidence.cosines is None:
        return pool.rows
    count = min(NEAREST_CONSIDERED, len(evidence.cosines))
    nearest = np.argpartition(-evidence.cosines, count - 1)[:count]
    return np.union1d(pool.rows, nearest)


def rank(
    evidence: Evidence, scores: Floats, pool: Pool, vectors: Floats, limit: int, tuning: Tuning
) -> Ranking:
    """Choose the best `limit` that differ, of a pool whose (k, d) vectors are those of its rows."""
    first, words, cosines = evidence.first, evidence.text, evidence.cosines
    chosen = diversified(scores[pool.positions], vectors, limit, tuning.diversity)
    text = None if words is None else best_of_passages(words, first)
    best_cosines = None if cosines is None else best_of_passages(cosines, first)
    answerable = _answerable(text, best_cosines, evidence, tuning.calibration)
    best = scores[pool.positions[:limit]]
    relevance = answerable * tuning.calibration.of_hits(best, evidence.admitted)
    return Ranking(
        positions=pool.positions[chosen].tolist(),
        passages=(pool.rows - first[pool.positions])[chosen].tolist(),
        relevance=relevance.tolist(),
        answerable=answerable,
        no_match=not len(chosen) or answerable < tuning.calibration.threshold,
        scores=scores,
        text=text,
        cosines=best_cosines,
    )


def ordered(evidence: Evidence, scores: Floats, most: int) -> Integers:
    """The positions of the memories that a leg found, best first, and no more than `most`."""
    import numpy as np

    found = np.flatnonzero(_found(evidence))
    if len(found) > most:
        least = np.partition(scores[found], len(found) - most)[len(found) - most]
        found = found[scores[found] >= least]
    return found[np.argsort(-scores[found], kind="stable")][:most]


def best_passages(evidence: Evidence, fusion: Fusion, positions: Integers) -> list[int]:
    """The number of the passage that matches best, of the memory at each position."""
    first = evidence.first[positions].tolist()
    rows = _best_rows(_passages(evidence, fusion), evidence.first, positions).tolist()
    return [row - low for row, low in zip(rows, first, strict=True)]


def _best_rows(passages: Floats, first: Integers, positions: Integers) -> Integers:
    """(r,) scores of passages -> (k,) the best passage's row of the memory at each position."""
    import numpy as np

    bounds = zip(first[positions].tolist(), first[positions + 1].tolist(), strict=True)
    return np.array([low + int(passages[low:high].argmax()) for low, high in bounds], np.int64)


def fused(evidence: Evidence, fusion: Fusion, *, single_leg: bool = False) -> Floats:
    """(n,) scores of the memories, from whatever legs were asked.

    With `single_leg` the one leg that was asked ranks by itself, without evidence from the session.
    """
    first, vector = evidence.first, None
    if evidence.cosines is not None:
        vector = leg(_neutral(evidence.cosines), first, fusion)
    if evidence.text is None:
        return _no_scores(evidence) if vector is None else vector
    text = leg(evidence.text, first, fusion)
    if single_leg:
        return text
    blend = blended(text, vector, fusion)
    scores = with_session_evidence(blend, evidence.sessions, evidence.memories, fusion)
    return with_recency(scores, evidence.ages, fusion)


def _neutral(cosines: Floats) -> Floats:
    """(r,) cosines, those of passages not embedded yet the mean: neither for nor against them."""
    import numpy as np

    known = cosines > UNKNOWN_COSINE
    if known.all() or not known.any():
        return cosines
    return np.where(known, cosines, cosines[known].mean())


def _answerable(
    text: Floats | None, cosines: Floats | None, evidence: Evidence, calibration: Calibration
) -> float:
    """The probability that any memory answers: by its vectors, or its words before it has any."""
    import numpy as np

    every = text if cosines is None else cosines
    if every is None or not len(every):
        return 0.0
    known = np.zeros(len(every), bool) if cosines is None else cosines > UNKNOWN_COSINE
    unknown = len(known) - int(known.sum())
    most, memories = evidence.most_text, evidence.admitted
    found = [0.0]
    if cosines is not None and known.any():
        found.append(calibration.answerable(None, cosines[known], most, memories - unknown))
    if text is not None and unknown:
        found.append(calibration.answerable(np.where(known, 0, text), None, most, memories))
    return max(found)


def _found(evidence: Evidence) -> Booleans:
    """(n,) whether a leg found the memory at all: one without vectors finds no word in most."""
    import numpy as np

    found = np.zeros(len(evidence.rows), bool)
    if evidence.cosines is not None:
        found |= evidence.cosines > UNKNOWN_COSINE
    if evidence.text is not None:
        found |= evidence.text > 0
    return np.logical_or.reduceat(found, evidence.first[:-1]) if len(found) else found


def _passages(evidence: Evidence, fusion: Fusion) -> Floats:
    """(r,) fused scores of the passages, each leg in its own deviations."""
    import numpy as np

    passages = np.zeros(len(evidence.rows), np.float32)
    for rows, weight in ((evidence.text, 1 - fusion.vector), (evidence.cosines, fusion.vector)):
        if rows is not None and len(rows):
            passages += weight * rows / max(float(rows.std()), 1e-9)
    return passages


def _no_scores(evidence: Evidence) -> Floats:
    import numpy as np

    return np.zeros(len(evidence), np.float32)


def _value(scores: Floats | None, position: int, worst: float) -> float | None:
    if scores is None or scores[position] <= worst:
        return None
    return float(scores[position])


def _ranks(scores: Floats | None, positions: list[int]) -> list[int]:
    """(n,) scores -> for each position how many are better, and one."""
    import numpy as np

    if scores is None:
        return [0] * len(positions)
    not_better = np.searchsorted(np.sort(scores), scores[positions], "right")
    ranks: list[int] = (len(scores) - not_better + 1).tolist()
    return ranks
