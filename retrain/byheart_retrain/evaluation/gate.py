"""The gate: whether a candidate may be promoted, that is, serve in place of the deployed model.

A pure function of the two models' scores on the same test queries, so that anybody can check it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_retrain.evaluation.guard import GuardResult
from byheart_retrain.evaluation.metrics import Interval, intervals
from byheart_retrain.labels import FEWEST_TESTED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Values: TypeAlias = Sequence[float] | Floats

DECIDING = "ndcg@10"
"""The metric whose gain a verdict depends on; the reported one stands beside it."""
REPORTED = "recall@1"

TEST_SHARE = 0.3
"""The part of few labelled queries that is set aside for the gate."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the candidate may be promoted, why, and the figures behind it.

    The gains are paired differences, after minus before, with their 95% intervals; `before` and
    `after` are means by metric.
    """

    passed: bool
    reason: str
    gain: Interval
    gain_at_1: Interval
    before: Mapping[str, float]
    after: Mapping[str, float]
    queries: int
    guards: tuple[GuardResult, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The decision and its figures as JSON values."""
        return {
            "promoted": self.passed,
            "reason": self.reason,
            "queries": self.queries,
            "gain": {DECIDING: self.gain.as_dict(), REPORTED: self.gain_at_1.as_dict()},
            "guards": [guard.as_dict() for guard in self.guards],
        }


def decide(
    before: Mapping[str, Values],
    after: Mapping[str, Values],
    *,
    min_gain: float = 0.0,
    tolerance: float = 0.0,
    fewest: int = FEWEST_TESTED,
    guards: Sequence[GuardResult] = (),
    test_share: float = TEST_SHARE,
) -> Verdict:
    """The verdict on (n,) scores per metric, before and after, of the same n test queries in order.

    A candidate passes if it gains NDCG@10 in the mean, `min_gain` at least; if the 95% paired
    bootstrap interval of that gain (Efron 1979, 10,000 resamples) stays above -`tolerance`; and if
    every guard holds. Where nothing but chance moved the scores, that interval let 3 to 4 of 100
    candidates through on 30 simulated queries, and 2 to 3 on 100 and more.

    Raises:
        ValueError: the scores are not of the same queries, or one is not a number.
    """
    pairs = {name: _paired(before, after, name) for name in (DECIDING, REPORTED)}
    count = len(pairs[DECIDING])
    if len(pairs[REPORTED]) != count:
        raise ValueError(f"{DECIDING} has {count} queries, {REPORTED} {len(pairs[REPORTED])}")
    gain, gain_at_1 = _gains(pairs)
    shortage = too_few(count, fewest, test_share)
    obstacles = _obstacles(gain, min_gain, tolerance, guards)
    return Verdict(
        passed=not obstacles and shortage is None,
        reason=f"No verdict: {shortage}." if shortage else _reason(gain, count, obstacles),
        gain=gain,
        gain_at_1=gain_at_1,
        before={name: _mean(own[:, 0]) for name, own in pairs.items()},
        after={name: _mean(own[:, 1]) for name, own in pairs.items()},
        queries=count,
        guards=tuple(guards),
    )


def too_few(count: int, fewest: int = FEWEST_TESTED, test_share: float = TEST_SHARE) -> str | None:
    """How many labels are missing for a verdict, in words; nothing if there are enough."""
    if count >= fewest:
        return None
    labelled = math.ceil(fewest / test_share)
    return (
        f"{count} labelled test queries are too few to judge by; {fewest - count} more are needed "
        f"there, which takes about {labelled} labelled queries in all"
    )


def _paired(before: Mapping[str, Values], after: Mapping[str, Values], name: str) -> Floats:
    """(n, 2) scores of one metric."""
    import numpy as np

    if name not in before or name not in after:
        raise ValueError(f"{name} is missing from the scores; measure both models on it")
    if len(before[name]) != len(after[name]):
        raise ValueError(
            f"{name} has {len(before[name])} scores before and {len(after[name])} after; "
            "ask both models the same queries"
        )
    pairs = np.column_stack([np.array(own[name], np.float64) for own in (before, after)])
    if not np.isfinite(pairs).all():
        raise ValueError(f"{name} holds a score that is no number; leave out queries without gold")
    return pairs


def _gains(pairs: Mapping[str, Floats]) -> list[Interval]:
    """The intervals of the differences; sorted before they are drawn, as order means nothing."""
    import numpy as np

    gains = np.column_stack([own[:, 1] - own[:, 0] for own in pairs.values()])
    return intervals(gains[np.lexsort(gains.T)])


def _obstacles(
    gain: Interval, min_gain: float, tolerance: float, guards: Sequence[GuardResult]
) -> list[str]:
    """What stands in the way of a promotion, in words."""
    obstacles = []
    if not gain.mean > _ROUNDING:
        obstacles.append("it does not gain anything")
    elif gain.mean < min_gain - _ROUNDING:
        obstacles.append(f"that is less than the {min_gain:.3f} asked for")
    elif not gain.low > -tolerance:
        reach = f"{-tolerance:.3f}" if tolerance else "zero"
        obstacles.append(f"the interval reaches down to {reach} or below, so it may be chance")
    obstacles += [
        f"{guard.name} lost {guard.loss.mean:.4f}, more than the {guard.tolerance:g} allowed"
        for guard in guards
        if not guard.holds
    ]
    return obstacles


def _reason(gain: Interval, count: int, obstacles: Sequence[str]) -> str:
    figures = (
        f"NDCG@10 changes by {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) "
        f"over {count} test queries"
    )
    if not obstacles:
        return f"Passed: {figures}, and no guard objects."
    return f"Refused: {figures}; {'; '.join(obstacles)}."


def _mean(scores: Floats) -> float:
    return math.fsum(scores) / len(scores) if len(scores) else math.nan
