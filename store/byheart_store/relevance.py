"""How likely a hit is to answer: features that mean the same in every store, and a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A logistic model of relevance; where no hit reaches `threshold`, nothing is known."""

    threshold: float = 0.5
