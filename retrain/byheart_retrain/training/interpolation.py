"""The weights between the base and the tuned ones, and which of them are kept.

An average of the two forgets less of what the base knew (WiSE-FT, Wortsman et al., CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

INTERPOLATIONS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""Shares of the tuned weights; coarse, since a finer choice follows the noise of few questions."""

MOST_FORGOTTEN = 0.005
"""Of general knowledge; the guard allows more, but asks the quantised model, which loses more."""

_ENOUGH = 0.95
"""Of the largest gain: what is gained with a smaller share forgets less."""


def best_share(by_share: Mapping[float, float], kept: Mapping[float, float]) -> float:
    """The smallest share of the tuned weights that gains nearly as much as any.

    Shares that lose more general knowledge than allowed are left out.
    """
    allowed = [share for share in sorted(by_share) if kept[share] >= kept[0.0] - MOST_FORGOTTEN]
    base = by_share[0.0]
    most = max(by_share[share] - base for share in allowed)
    return next(share for share in allowed if by_share[share] - base >= _ENOUGH * most)


def interpolated(
    before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """`share` of the way from the weights before to those after."""
    return {
        name: old + share * (after[name] - old) if old.is_floating_point() else after[name]
        for name, old in before.items()
    }
