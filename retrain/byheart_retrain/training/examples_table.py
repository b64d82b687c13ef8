"""Examples as the encoder's trainer takes them: a table with a column for each part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle, islice
from typing import Any

from byheart_retrain.mining import TrainingExample


def dataset_of(examples: Sequence[TrainingExample]) -> Any:
    """A row for each example, all with as many negatives as the one that has most."""
    from datasets import Dataset

    width = max(len(example.negatives) for example in examples)
    columns = {
        "anchor": [example.question for example in examples],
        "positive": [example.positive for example in examples],
    }
    rows = [
        _filled(example, examples, position, width) for position, example in enumerate(examples)
    ]
    for number in range(width):
        columns[f"negative_{number}"] = [row[number] for row in rows]
    return Dataset.from_dict(columns)


def _filled(
    example: TrainingExample, examples: Sequence[TrainingExample], position: int, width: int
) -> tuple[str, ...]:
    """The example's negatives, and where there are too few the answers to the next questions."""
    following = (
        examples[(position + step) % len(examples)].positive for step in range(len(examples))
    )
    others = (text for text in following if text != example.positive)
    missing = width - len(example.negatives)
    return (*example.negatives, *islice(chain(others, cycle([""])), missing))
