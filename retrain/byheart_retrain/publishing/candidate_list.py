"""Trained models by their folders: what the report that lies there tells of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from byheart_retrain.evaluation import DECIDING, REPORTED, Interval
from byheart_retrain.publishing.report_files import REPORT
from byheart_store import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trained model and the gate's verdict on it; `at` is when that was written.

    The gains are those over the model that served then, on so many test `questions`.
    """

    folder: Path
    passed: bool
    reason: str
    gain: Interval
    gain_at_1: Interval
    questions: int
    at: datetime

    def as_dict(self) -> dict[str, Any]:
        """The verdict and its figures as JSON values."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "gain": {DECIDING: self.gain.as_dict(), REPORTED: self.gain_at_1.as_dict()},
            "questions": self.questions,
            "at": self.at.isoformat(),
        }


def candidates(models: Path) -> list[Candidate]:
    """Those in the folders right under this one, by name.

    Raises:
        InvalidInput: a report can't be read.
    """
    listed = [candidate(report.parent) for report in sorted(models.glob(f"*/{REPORT}"))]
    return [one for one in listed if one is not None]


def candidate(folder: Path) -> Candidate | None:
    """The one in this folder; None where no report lies.

    Raises:
        InvalidInput: the report can't be read.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        verdict, gain = report["verdict"], report["scores"]["gain"]
        return Candidate(
            folder=folder,
            passed=bool(verdict["promoted"]),
            reason=str(verdict["reason"]),
            gain=Interval(**gain[DECIDING]),
            gain_at_1=Interval(**gain[REPORTED]),
            questions=int(report["labels"]["test"]),
            at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidInput(
            f"{path} is no report of a retraining ({type(error).__name__}); "
            "restore the file, or remove it"
        ) from error
