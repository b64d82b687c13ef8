"""Maximal marginal relevance: no hit should say again what a better one has said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """How much a hit pays for saying what stands above it.

    balance   weight of the score against redundancy; 1 leaves the order alone
    alike     the cosine from which two texts say the same rather than speak of the same
    """

    balance: float = 0.7
    alike: float = 0.8


def redundancy(cosines: Floats, alike: float) -> Floats:
    """Cosines -> 0 up to `alike`, where two texts have a topic in common, and 1 for a copy."""
    import numpy as np

    excess: Floats = np.clip((cosines - alike) / (1 - alike), 0, 1)
    return excess


def diversified(scores: Floats, vectors: Floats, limit: int, diversity: Diversity) -> list[int]:
    """The positions of the best `limit` by greedy MMR (Carbonell and Goldstein 1998).

    (n,) falling scores and (n, d) unit vectors, zeros where none is known. Each step takes the
    best of balance x score - (1 - balance) x redundancy with what stands already, the scores
    scaled to 0..1; at a balance of 1 the order of the scores stands. Ties go to the first.
    """
    import numpy as np

    spread = float(scores[0] - scores[-1]) if len(scores) else 0.0
    balance = diversity.balance
    gains = balance * (scores - scores[-1]) / spread if spread > 0 else np.zeros(len(scores))
    nearest = np.full(len(scores), -1.0, np.float32)
    chosen: list[int] = []
    for _ in range(min(limit, len(scores))):
        worth = gains - (1 - balance) * redundancy(nearest, diversity.alike)
        worth[chosen] = -np.inf
        position = int(worth.argmax())
        chosen.append(position)
        nearest = np.maximum(nearest, vectors @ vectors[position])
    return chosen
