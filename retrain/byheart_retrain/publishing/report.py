"""What a retraining tells of itself: counts, scores and times, never a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypeAlias, TypedDict

from byheart_retrain.evaluation import DECIDING, METRICS, Answer
from byheart_retrain.evaluation.metrics import intervals, measured
from byheart_retrain.evaluation.scoring import latency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Mean: TypeAlias = Mapping[str, float | None]
"""Mean, low and high of a 95% interval, as `Interval.as_dict` gives them."""

Means: TypeAlias = Mapping[str, Mean]
"""Means by metric."""

Latencies: TypeAlias = Mapping[str, Mapping[str, float]]
"""Milliseconds of a recall, "p50" and "p99", "before" and "after"."""


class PairedScores(TypedDict):
    """The deployed and the trained pipeline on the same test queries, and the paired gain."""

    before: Means
    after: Means
    gain: Means


class LabelsReport(TypedDict):
    """How many questions and judgements there were, and where the questions went."""

    queries: int
    labels: int
    by_source: Mapping[str, int]
    train: int
    dev: int
    test: int


class TypeScores(TypedDict):
    """NDCG@10 on the test queries of one type."""

    queries: int
    before: Mean
    after: Mean
    gain: Mean


class RerankerReport(TypedDict):
    """A cross-encoder behind the trained embedding, compared with the embedding alone."""

    base: str
    scores: PairedScores
    verdict: Mapping[str, Any]
    settings: NotRequired[Mapping[str, Any]]
    latency_ms: NotRequired[Latencies]


class Report(TypedDict):
    """The content of report.json.

    `training` holds hyperparameters by name and "curve", entries of "step" with "loss" or "dev".
    `mining` and `tuning` are figures by name. `gains` are the test queries' differences in NDCG@10.
    `verdict` and `guards` are as `Verdict.as_dict` and `GuardResult.as_dict` give them.
    """

    name: str
    base: str
    license: NotRequired[str]
    command: str
    seed: int
    seconds: Mapping[str, float]
    labels: LabelsReport
    mining: Mapping[str, Any]
    training: Mapping[str, Any]
    tuning: Mapping[str, Any]
    scores: PairedScores
    by_type: Mapping[str, TypeScores]
    gains: Sequence[float]
    guards: Sequence[Mapping[str, Any]]
    verdict: Mapping[str, Any]
    latency_ms: Latencies
    parity: Mapping[str, float]
    reranker: NotRequired[RerankerReport]


def scores_of(answers: Sequence[Answer]) -> Floats:
    """n answers -> (n, metrics) values, a column per name in METRICS."""
    return measured(
        [answer.memories for answer in answers], [answer.query.gold for answer in answers]
    )


def scores_between(before: Sequence[Answer], after: Sequence[Answer]) -> PairedScores:
    """Two pipelines' means on the same queries, and the paired gain."""
    old, new = scores_of(before), scores_of(after)
    return {"before": _means(old), "after": _means(new), "gain": _means(new - old)}


def scores_by_type(before: Sequence[Answer], after: Sequence[Answer]) -> dict[str, TypeScores]:
    """NDCG@10 of both pipelines for the queries of each type."""
    by_type: dict[str, TypeScores] = {}
    for name in sorted({answer.query.type or "other" for answer in before}):
        positions = [
            position for position, one in enumerate(before) if (one.query.type or "other") == name
        ]
        scores = scores_between(
            [before[one] for one in positions], [after[one] for one in positions]
        )
        by_type[name] = {
            "queries": len(positions),
            "before": scores["before"][DECIDING],
            "after": scores["after"][DECIDING],
            "gain": scores["gain"][DECIDING],
        }
    return by_type


def gains_of(before: Sequence[Answer], after: Sequence[Answer]) -> list[float]:
    """The queries' differences in NDCG@10, the largest first."""
    gains = (scores_of(after) - scores_of(before))[:, list(METRICS).index(DECIDING)]
    return sorted(gains.tolist(), reverse=True)


def latencies(before: Sequence[Answer], after: Sequence[Answer]) -> Latencies:
    """How long a recall takes in either pipeline."""
    return {"before": _latency(before), "after": _latency(after)}


def _latency(answers: Sequence[Answer]) -> Mapping[str, float]:
    times = [answer.milliseconds for answer in answers if answer.milliseconds is not None]
    return latency(times)


def _means(values: Floats) -> dict[str, Mean]:
    return {
        name: {"mean": one.mean, "low": one.low, "high": one.high}
        for name, one in zip(METRICS, intervals(values), strict=True)
    }
