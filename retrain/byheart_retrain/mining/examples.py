"""Examples: queries with a memory that answers each, and some that don't."""

from __future__ import annotations

from dataclasses import dataclass

from byheart_retrain.queries import LabelledQuery


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A question, a passage that answers it and passages that don't, as the encoder reads them."""

    question: str
    positive: str
    negatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MinedExample:
    """A memory that answers a query, and memories that don't, the labelled ones first.

    `texts` are what the encoder reads of the positive and of each negative, in that order.
    """

    query: LabelledQuery
    positive: str
    negatives: tuple[str, ...]
    texts: tuple[str, ...]

    def for_training(self) -> TrainingExample:
        """The texts alone."""
        return TrainingExample(self.query.text, self.texts[0], self.texts[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningStats:
    """What was mined, and what of the memories ranked high was left out, over all queries.

    `positives` are answers among them, `copies` say the same as one, `above` rank above the best.
    `labelled` of the negatives taken were labelled as not useful.
    """

    queries: int
    examples: int
    candidates: int
    positives: int
    copies: int
    above: int
    labelled: int
    mean_negatives: float
    without_negatives: int


@dataclass(frozen=True, slots=True)
class MiningResult:
    """The examples of all queries, and how they came about."""

    examples: list[MinedExample]
    stats: MiningStats

    def for_training(self) -> list[TrainingExample]:
        """The texts alone."""
        return [example.for_training() for example in self.examples]
