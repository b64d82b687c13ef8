"""What the stages of a retraining hand on, and the report that tells of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from byheart_retrain.evaluation import DECIDING, REPORTED, Answer, Verdict
from byheart_retrain.labels import LabelCounts, Split
from byheart_retrain.mining import MiningStats
from byheart_retrain.publishing import Parity, Report
from byheart_retrain.publishing.report import (
    LabelsReport,
    PairedScores,
    RerankerReport,
    gains_of,
    latencies,
    scores_between,
    scores_by_type,
)
from byheart_retrain.retraining.reranker import CandidateReranker
from byheart_retrain.retraining.settings import RetrainSettings
from byheart_retrain.training import TrainedEncoder, TrainingSettings
from byheart_store import Memory
from byheart_store.ranking import Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitLabels:
    """The usable questions in three parts, and what there was to choose from."""

    parts: Split
    counts: LabelCounts
    memories: list[Memory]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedReranker:
    """The answers to the test questions with the reranker, and the verdict on it."""

    answers: list[Answer]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The answers to the test questions before and after, and the verdict on the candidate.

    `after` are the answers without a reranker; `tuning` is what the candidate would serve with.
    """

    before: list[Answer]
    after: list[Answer]
    tuning: Tuning
    verdict: Verdict
    reranker: TestedReranker | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that the stages have come to."""

    base: str
    trained: TrainedEncoder
    mining: MiningStats
    labels: SplitLabels
    parity: Parity
    reranker: CandidateReranker | None
    test: Tested


def report_of(results: Results, settings: RetrainSettings, seconds: Mapping[str, float]) -> Report:
    """The content of report.json."""
    test = results.test
    report: Report = {
        "name": settings.output.name,
        "base": results.base,
        "command": settings.command,
        "seed": settings.seed,
        "seconds": dict(seconds),
        "labels": _labels(results.labels),
        "mining": asdict(results.mining),
        "training": _training(results.trained, settings.training),
        "tuning": test.tuning.as_dict(),
        "scores": _scores(test.before, test.after, test.verdict),
        "by_type": scores_by_type(test.before, test.after),
        "gains": gains_of(test.before, test.after),
        "guards": [guard.as_dict() for guard in test.verdict.guards],
        "verdict": _verdict(test.verdict),
        "latency_ms": latencies(test.before, test.after),
        "parity": results.parity.as_dict(),
    }
    if results.reranker is not None and test.reranker is not None:
        report["reranker"] = _reranker(results.reranker, test.reranker, test.after, settings)
    return report


def _labels(labels: SplitLabels) -> LabelsReport:
    parts, counts = labels.parts, labels.counts
    return {
        "queries": counts.queries,
        "labels": counts.labels,
        "by_source": dict(counts.sources),
        "train": len(parts.train),
        "dev": len(parts.dev),
        "test": len(parts.test),
    }


def _training(trained: TrainedEncoder, settings: TrainingSettings) -> dict[str, Any]:
    return asdict(settings) | {
        "loss": "CachedMultipleNegativesRankingLoss",
        "interpolation": trained.share,
        "by_interpolation": {f"{share:g}": score for share, score in trained.by_share.items()},
        "device": trained.device,
        "precision": trained.precision,
        "curve": trained.curve,
    }


def _scores(before: Sequence[Answer], after: Sequence[Answer], verdict: Verdict) -> PairedScores:
    """Means and gains; those that the verdict rests on are the gate's own."""
    scores = scores_between(before, after)
    own = {DECIDING: verdict.gain, REPORTED: verdict.gain_at_1}
    gain = {**scores["gain"], **{name: one.as_dict() for name, one in own.items()}}
    return {**scores, "gain": gain}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"promoted": verdict.passed, "reason": verdict.reason}


def _reranker(
    reranker: CandidateReranker,
    test: TestedReranker,
    without: Sequence[Answer],
    settings: RetrainSettings,
) -> RerankerReport:
    return {
        "base": settings.output.name,
        "scores": _scores(without, test.answers, test.verdict),
        "settings": {
            **asdict(reranker.reranking),
            "examples": reranker.examples,
            "milliseconds": reranker.milliseconds,
            "by_weight": {f"{one:g}": score for one, score in reranker.by_weight.items()},
            "alike": reranker.alike,
        },
        "verdict": _verdict(test.verdict),
        "latency_ms": latencies(without, test.answers),
    }
