"""What a candidate may not forget: every memory of the store, and the world outside it.

A guard asks the deployed model and the candidate the same questions and bounds the mean loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_retrain.evaluation.asking import Answer, ask
from byheart_retrain.evaluation.metrics import Interval, intervals, ndcg
from byheart_retrain.queries import LabelledQuery
from byheart_store import MemoryStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from byheart_store.models import Encoder

    Rows: TypeAlias = NDArray[np.float32]
    Values: TypeAlias = Sequence[float] | NDArray[np.float64]

TOLERANCE = 0.02
"""How much NDCG@10 a guard may lose in the mean; a percent or so is what a retraining shifts."""

GENERAL_TOLERANCE = TOLERANCE
"""The same for what a candidate knows of the world outside its store."""

DEPTH = 10

_GENERAL = Path(__file__).parent / "general.jsonl"
_ROUNDING = 1e-9
_ROUNDING_OF_COSINES = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardResult:
    """Mean NDCG@10 of the deployed model and the candidate, and what is lost between them.

    `loss` is the paired difference, before minus after, with its 95% interval.
    """

    name: str
    queries: int
    before: float
    after: float
    loss: Interval
    tolerance: float = TOLERANCE

    @property
    def holds(self) -> bool:
        """Whether the mean loss is within the tolerance; nothing asked is nothing lost."""
        return not self.queries or self.loss.mean <= self.tolerance + _ROUNDING

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {
            "name": self.name,
            "queries": self.queries,
            "before": self.before,
            "after": self.after,
            "loss": self.loss.as_dict(),
            "tolerance": self.tolerance,
            "holds": self.holds,
        }


def guarded(
    name: str,
    before: Values,
    after: Values,
    *,
    tolerance: float = TOLERANCE,
) -> GuardResult:
    """(n,) scores before and after, query by query -> the guard that they make."""
    import numpy as np

    pairs = np.column_stack([np.array(before, np.float64), np.array(after, np.float64)])
    loss = intervals(pairs[:, :1] - pairs[:, 1:])[0]
    means = pairs.mean(axis=0) if len(pairs) else (0.0, 0.0)
    return GuardResult(
        name=name,
        queries=len(pairs),
        before=float(means[0]),
        after=float(means[1]),
        loss=loss,
        tolerance=tolerance,
    )


async def known_items(
    deployed: MemoryStore,
    candidate: MemoryStore,
    queries: Sequence[LabelledQuery],
    *,
    tolerance: float = TOLERANCE,
) -> GuardResult:
    """Ask both stores for memories by their rarest words.

    The labels say nothing of most memories, and this is the search that every memory must survive.
    """
    before = _scores(await ask(deployed, queries, limit=DEPTH))
    after = _scores(await ask(candidate, queries, limit=DEPTH))
    return guarded("known items", before, after, tolerance=tolerance)


def _scores(answers: Sequence[Answer]) -> list[float]:
    return [ndcg(answer.memories, answer.query.gold, DEPTH) for answer in answers]


def general(
    deployed: Encoder, candidate: Encoder, *, tolerance: float = GENERAL_TOLERANCE
) -> GuardResult:
    """Ask both encoders questions of everyday life, work and technology, among their answers."""
    before, after = (general_scores(*_general_rows(encoder)) for encoder in (deployed, candidate))
    return guarded("general knowledge", before, after, tolerance=tolerance)


@lru_cache(maxsize=1)
def general_pairs() -> tuple[tuple[str, str], ...]:
    """Questions with the one passage that answers each."""
    rows = map(json.loads, _GENERAL.read_text(encoding="utf-8").splitlines())
    return tuple((row["query"], row["passage"]) for row in rows)


def general_scores(questions: Rows, passages: Rows) -> list[float]:
    """(n, d) unit rows of the general questions and of their passages -> n times NDCG@10.

    All passages are ranked by cosine; of equal ones the answer comes last, so that a model whose
    vectors are all alike finds nothing.
    """
    import numpy as np

    cosines = questions @ passages.T
    # The rounding of a matrix product tells equal rows apart.
    reached = cosines >= np.diagonal(cosines)[:, None] - _ROUNDING_OF_COSINES
    ranks = reached.sum(axis=1)
    scores: list[float] = np.where(ranks <= DEPTH, 1 / np.log2(ranks + 1), 0.0).tolist()
    return scores


def _general_rows(encoder: Encoder) -> tuple[Rows, Rows]:
    import numpy as np

    questions, passages = zip(*general_pairs(), strict=True)
    asked = np.stack([encoder.encode_query(question) for question in questions])
    return asked, encoder.encode_passages(passages)
