"""What is fitted for a store and a model: how the legs are fused, and what a score is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from byheart_store.ranking.diversity import Diversity
from byheart_store.ranking.fusion import MILD_RECENCY, Fusion
from byheart_store.ranking.relevance import Calibration
from byheart_store.ranking.reranking import Reranking

T = TypeVar("T", Fusion, Diversity, Calibration, Reranking)


@dataclass(frozen=True, slots=True)
class Tuning:
    """The parameters of a recall beside the vectors; the defaults serve every store."""

    fusion: Fusion = field(default_factory=Fusion)
    diversity: Diversity = field(default_factory=Diversity)
    calibration: Calibration = field(default_factory=Calibration)
    reranking: Reranking = field(default_factory=Reranking)

    def preferring_recent(self) -> Tuning:
        """The same with at least a mild preference for what happened lately."""
        recency = max(self.fusion.recency, MILD_RECENCY)
        return replace(self, fusion=replace(self.fusion, recency=recency))

    def as_dict(self) -> dict[str, Any]:
        """All parameters as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tuning:
        """Read what `as_dict` gave; what it lacks has its default, what is not known is left."""
        return cls(
            fusion=_known(Fusion, values.get("fusion", {})),
            diversity=_known(Diversity, values.get("diversity", {})),
            calibration=_known(Calibration, values.get("calibration", {})),
            reranking=_known(Reranking, values.get("reranking", {})),
        )


def _known(kind: type[T], values: Mapping[str, Any]) -> T:
    names = {one.name for one in fields(kind)}
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }
    return kind(**known)


DEFAULT_TUNING = Tuning()
