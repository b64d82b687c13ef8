"""What a store's answers are worth: means by level and type, differences, latency, abstention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from byheart_retrain.evaluation.asking import Answer
from byheart_retrain.evaluation.metrics import (
    METRICS,
    Interval,
    auroc,
    expected_calibration_error,
    false_positive_rate,
    intervals,
    measured,
)
from byheart_store import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVELS = ("memory", "session")


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one level: (n, metrics) values per query, and their means with intervals."""

    values: NDArray[np.float64]
    means: Mapping[str, Interval]

    def as_dict(self) -> dict[str, dict[str, float | None]]:
        """Mean, low and high by metric."""
        return {name: interval.as_dict() for name, interval in self.means.items()}


def scored(answers: Sequence[Answer], level: str) -> Scores:
    """The metrics at one level over the answers whose query has gold there."""
    answerable = [answer for answer in answers if answer.gold(level)]
    rankings = [answer.ranking(level) for answer in answerable]
    values = measured(rankings, [answer.gold(level) for answer in answerable])
    return Scores(values, dict(zip(METRICS, intervals(values), strict=True)))


def compared(ours: Sequence[Answer], theirs: Mapping[str, Sequence[str]]) -> dict[str, Interval]:
    """Paired differences, ours minus theirs, at memory level; a query they lack counts as empty.

    Raises:
        InvalidInput: they lack all queries.
    """
    answerable = [answer for answer in ours if answer.query.gold]
    if not any(answer.query.id in theirs for answer in answerable):
        raise InvalidInput("the run to compare with answers none of these queries; give another")
    golds = [answer.query.gold for answer in answerable]
    mine = measured([answer.memories for answer in answerable], golds)
    other = measured([theirs.get(answer.query.id, ()) for answer in answerable], golds)
    return dict(zip(METRICS, intervals(mine - other), strict=True))


def report(answers: Sequence[Answer], levels: Sequence[str] = LEVELS) -> dict[str, Any]:
    """The published figures: means with 95% intervals by level and type, latency, abstention."""
    types = sorted({answer.query.type for answer in answers if answer.query.type})
    result: dict[str, Any] = {level: scored(answers, level).as_dict() for level in levels}
    result["by_type"] = {
        name: _of_type([a for a in answers if a.query.type == name], levels) for name in types
    }
    times = [answer.milliseconds for answer in answers if answer.milliseconds is not None]
    result["latency_ms"] = latency(times)
    result["queries"] = len(answers)
    unanswerable = [answer for answer in answers if not _answerable(answer)]
    if unanswerable:
        result["false_positives"] = _false_positives(unanswerable)
        if len(unanswerable) < len(answers):
            result["relevance"] = _relevance(answers)
    return result


def _of_type(answers: Sequence[Answer], levels: Sequence[str]) -> dict[str, Any]:
    labelled = [level for level in levels if any(answer.gold(level) for answer in answers)]
    return {level: scored(answers, level).as_dict() for level in labelled} | {
        "queries": len(answers)
    }


def _answerable(answer: Answer) -> bool:
    return bool(answer.query.gold or answer.gold_sessions)


def latency(milliseconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile; zeros where nothing was timed."""
    import numpy as np

    middle, slowest = np.percentile(milliseconds, [50, 99]) if milliseconds else (0.0, 0.0)
    return {"p50": float(middle), "p99": float(slowest)}


def _false_positives(unanswerable: Sequence[Answer]) -> dict[str, Any]:
    import numpy as np

    answered = np.array([[float(not answer.no_match)] for answer in unanswerable])
    return {"queries": len(unanswerable), "rate": intervals(answered)[0].as_dict()}


def _relevance(answers: Sequence[Answer]) -> dict[str, Any]:
    """How well the store tells what it can answer, and how honest the relevance of a hit is.

    Beside it, what the best hit's bare cosine and BM25 score tell.
    """
    import numpy as np

    outcomes = np.array([float(_answerable(answer)) for answer in answers])
    figures: dict[str, Any] = _discrimination([answer.answerable for answer in answers], outcomes)
    missed = [answer.no_match for answer in answers if _answerable(answer)]
    figures["missed"] = float(np.mean(missed))
    relevances = np.array([relevance for answer in answers for relevance in answer.relevances])
    right = [float(name in answer.query.gold) for answer in answers for name in answer.memories]
    if len(relevances):
        figures["ece"] = expected_calibration_error(relevances, np.array(right))
    figures["by_cosine"] = _discrimination([answer.best_cosine for answer in answers], outcomes)
    figures["by_bm25"] = _discrimination([answer.best_bm25 for answer in answers], outcomes)
    return figures


def _discrimination(scores: Sequence[float], outcomes: NDArray[np.float64]) -> dict[str, float]:
    """How well the scores tell queries that have an answer from those that have none."""
    import numpy as np

    values = np.array(scores)
    probabilities = np.clip(values / max(1.0, float(values.max())), 0, 1)
    return {
        "auroc": auroc(values[outcomes == 1], values[outcomes == 0]),
        "fpr@95": false_positive_rate(values[outcomes == 1], values[outcomes == 0]),
        "query_ece": expected_calibration_error(probabilities, outcomes),
    }
