"""Retrieval metrics with binary relevance, and what may be said of their means.

A ranking is a sequence of ids, best first; gold is the set of relevant ids, never empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

RESAMPLES = 10_000
CONFIDENCE = 0.95
_RESAMPLES_AT_ONCE = 500


def ndcg(ranking: Sequence[str], gold: Collection[str], depth: int) -> float:
    """NDCG@depth; the ideal ranking holds all gold items (Jaervelin and Kekaelaeinen 2002)."""
    gain = sum(
        1 / math.log2(position + 2) for position, item in enumerate(ranking[:depth]) if item in gold
    )
    ideal = sum(1 / math.log2(position + 2) for position in range(min(depth, len(gold))))
    return gain / ideal


def recall(ranking: Sequence[str], gold: Collection[str], depth: int) -> float:
    """The share of the gold items among the first `depth`."""
    return sum(item in gold for item in ranking[:depth]) / len(gold)


def hit(ranking: Sequence[str], gold: Collection[str], depth: int) -> float:
    """1 if any gold item is among the first `depth`, else 0."""
    return float(any(item in gold for item in ranking[:depth]))


def reciprocal_rank(ranking: Sequence[str], gold: Collection[str]) -> float:
    """1 / the rank of the first gold item, 0 where there is none."""
    ranks = (1 / position for position, item in enumerate(ranking, start=1) if item in gold)
    return next(ranks, 0.0)


METRICS: Mapping[str, Callable[[Sequence[str], Collection[str]], float]] = {
    "ndcg@10": lambda ranking, gold: ndcg(ranking, gold, 10),
    "recall@1": lambda ranking, gold: recall(ranking, gold, 1),
    "recall@3": lambda ranking, gold: recall(ranking, gold, 3),
    "recall@5": lambda ranking, gold: recall(ranking, gold, 5),
    "recall@10": lambda ranking, gold: recall(ranking, gold, 10),
    "mrr": reciprocal_rank,
    "hit@5": lambda ranking, gold: hit(ranking, gold, 5),
}


def measured(rankings: Sequence[Sequence[str]], golds: Sequence[Collection[str]]) -> Floats:
    """n rankings with their gold -> (n, metrics) values, a column per name in METRICS."""
    import numpy as np

    rows = [
        [metric(ranking, gold) for metric in METRICS.values()]
        for ranking, gold in zip(rankings, golds, strict=True)
    ]
    return np.array(rows, np.float64).reshape(len(rows), len(METRICS))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """The three numbers by name; nothing, as JSON has no NaN, where nothing was measured."""
        numbers = {"mean": self.mean, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in numbers.items()}


def intervals(values: Floats, *, confidence: float = CONFIDENCE, seed: int = 0) -> list[Interval]:
    """(n, m) values -> m means with percentile bootstrap intervals (Efron 1979) over the n rows.

    Given differences of two systems on the same queries, the intervals are paired ones.
    """
    import numpy as np

    count = len(values)
    if count == 0:
        return [Interval(math.nan, math.nan, math.nan)] * values.shape[1]
    draw = np.random.default_rng(seed)
    shares = np.full(count, 1 / count)
    means = np.concatenate(
        [
            draw.multinomial(count, shares, _RESAMPLES_AT_ONCE) @ values / count
            for _ in range(RESAMPLES // _RESAMPLES_AT_ONCE)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(least), float(most))
        for mean, least, most in zip(values.mean(axis=0), low, high, strict=True)
    ]


def auroc(positives: Floats, negatives: Floats) -> float:
    """The probability that a positive's score beats a negative's, ties counting half."""
    import numpy as np

    if not len(positives) or not len(negatives):
        return math.nan
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left")
    not_above = np.searchsorted(ordered, positives, "right")
    return float((below + not_above).mean() / 2 / len(negatives))


def false_positive_rate(positives: Floats, negatives: Floats, recall: float = 0.95) -> float:
    """The share of negatives that reach the score which `recall` of the positives reach."""
    import numpy as np

    if not len(positives) or not len(negatives):
        return math.nan
    threshold = np.sort(positives)[::-1][math.ceil(recall * len(positives)) - 1]
    return float((negatives >= threshold).mean())


def calibration_curve(
    probabilities: Floats, outcomes: Floats, bins: int = 10
) -> list[tuple[float, float, int]]:
    """Per equal-width bin that holds any: mean probability, observed share, count."""
    import numpy as np

    positions = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        (
            float(probabilities[positions == position].mean()),
            float(outcomes[positions == position].mean()),
            int((positions == position).sum()),
        )
        for position in range(bins)
        if (positions == position).any()
    ]


def expected_calibration_error(probabilities: Floats, outcomes: Floats, bins: int = 10) -> float:
    """Mean gap of probability and observed share, weighted by count (Naeini et al. 2015)."""
    if not len(probabilities):
        return math.nan
    curve = calibration_curve(probabilities, outcomes, bins)
    return sum(abs(probability - share) * count for probability, share, count in curve) / len(
        probabilities
    )
