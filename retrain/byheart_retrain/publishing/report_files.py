"""Beside a trained model: its report, its pictures and its model card, none with a text in it."""

from __future__ import annotations

import json
from pathlib import Path

from byheart_retrain.publishing.model_card import card
from byheart_retrain.publishing.pictures import draw
from byheart_retrain.publishing.report import Report

REPORT = "report.json"
CARD = "README.md"


def publish_report(folder: Path, report: Report) -> None:
    """Write the report, the pictures, and the card that shows them."""
    write_report(folder, report)
    draw(folder, report)
    write_card(folder, report)


def write_report(folder: Path, report: Report) -> None:
    """Write report.json.

    Raises:
        ValueError: a figure is no number, which JSON can't hold.
    """
    text = json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8", newline="\n")


def write_card(folder: Path, report: Report) -> None:
    """Write the model card with the pictures that lie there.

    It takes the place of the trainer's own card, which quotes examples that were trained on.
    """
    pictures = [path.name for path in sorted(folder.glob("*.png"))]
    (folder / CARD).write_text(card(report, pictures), encoding="utf-8", newline="\n")
