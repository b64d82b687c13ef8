"""What a retraining is given, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from byheart_retrain.labels import FEWEST_TESTED
from byheart_retrain.publishing import Report
from byheart_retrain.training import RerankerSettings, TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainSettings:
    """What a retraining may be told.

    `base` is the model that training starts from, None the one that the store's own came from. A
    candidate needs a gain of `min_gain` NDCG@10 whose interval stays above -`tolerance`, on
    `fewest` test questions at least. `command` is what the model card says to reproduce it with.
    """

    output: Path
    base: str | None = None
    seed: int = 0
    min_gain: float = 0.0
    tolerance: float = 0.0
    fewest: int = FEWEST_TESTED
    rerank: bool = True
    command: str = "byheart retrain"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    reranker: RerankerSettings = field(default_factory=RerankerSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a retraining ended: the verdict, and the candidate's folder if one was trained."""

    passed: bool
    reason: str
    folder: Path | None = None
    report: Report | None = None
