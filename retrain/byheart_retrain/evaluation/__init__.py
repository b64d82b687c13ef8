"""Evaluation: asking a store, metrics and their intervals, the guards, and the gate's verdict."""

from byheart_retrain.evaluation.asking import Answer, ask
from byheart_retrain.evaluation.gate import DECIDING, REPORTED, Verdict, decide, too_few
from byheart_retrain.evaluation.guard import GuardResult
from byheart_retrain.evaluation.metrics import METRICS, Interval
from byheart_retrain.evaluation.scoring import compared, report

__all__ = [
    "DECIDING",
    "METRICS",
    "REPORTED",
    "Answer",
    "GuardResult",
    "Interval",
    "Verdict",
    "ask",
    "compared",
    "decide",
    "report",
    "too_few",
]
