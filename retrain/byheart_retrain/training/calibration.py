"""What a score is worth: the calibration of relevance, fitted to observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.training.observations import DEPTH, Observation, best_ids
from byheart_store.ranking import Calibration, Fusion, fused, hit_features, query_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

_PRIOR = 1.0
"""The inverse variance of the calibration around its default coefficients, features in 0..1."""

_MOST_STEPS = 200
_LONGEST_STEP = 1.0
_CLOSE = 1e-7


def calibrated(
    observations: Sequence[Observation], fusion: Fusion, default: Calibration
) -> Calibration:
    """The calibration moved from the default as far as the labels ask for.

    Whether anything answers can be learnt only where some queries have no answer.
    """
    import numpy as np

    features = [observed_features(one, fusion) for one in observations if len(one.evidence)]
    hits = [(rows, right) for _, rows, right, answered in features if answered]
    hit = logistic(
        np.concatenate([rows for rows, _ in hits]),
        np.concatenate([right for _, right in hits]),
        np.array(default.hit),
    )
    answered = np.array([float(one[3]) for one in features])
    vectors = np.array(default.vectors)
    if answered.min() < answered.max():
        vectors = logistic(np.array([one[0] for one in features]), answered, vectors)
    return replace(default, hit=tuple(hit.tolist()), vectors=tuple(vectors.tolist()))


def observed_features(one: Observation, fusion: Fusion) -> tuple[Floats, Floats, Floats, bool]:
    """What the calibration reads of a query and of its first hits, and what was right."""
    import numpy as np

    scores = np.sort(fused(one.evidence, fusion))[::-1][:DEPTH]
    right = np.array([float(name in one.gold) for name in best_ids(one, fusion)])
    hits = hit_features(scores, len(one.evidence)).astype(float)
    return query_features(one.cosines, len(one.cosines)).astype(float), hits, right, bool(one.gold)


def logistic(features: Floats, outcomes: Floats, prior: Floats) -> Floats:
    """(n, k) features, (n,) outcomes, (k + 1,) prior -> (k + 1,) coefficients, the constant first.

    Logistic regression by Newton's method, its steps bounded, with a normal prior around the given
    coefficients on the scale of each feature.
    """
    import numpy as np

    rows = np.column_stack([np.ones(len(features)), features])
    scale = np.abs(rows).max(axis=0, initial=1e-6)
    rows, center = rows / scale, prior * scale
    weights = center.copy()
    for _ in range(_MOST_STEPS):
        probabilities = _sigmoid(rows @ weights)
        gradient = rows.T @ (outcomes - probabilities) - _PRIOR * (weights - center)
        spread = np.maximum(probabilities * (1 - probabilities), 1e-6)
        curvature = (rows * spread[:, None]).T @ rows + _PRIOR * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights += step * min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < _CLOSE:
            break
    fitted: Floats = weights / scale
    return fitted


def _sigmoid(logits: Floats) -> Floats:
    import numpy as np

    probabilities: Floats = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    return probabilities


def relevances(one: Observation, fusion: Fusion, calibration: Calibration) -> Floats:
    """(k,) probabilities that the best memories answer, best first."""
    import numpy as np

    scores = np.sort(fused(one.evidence, fusion))[::-1][:DEPTH]
    answerable = calibration.answerable(None, one.cosines, 1.0, len(one.cosines))
    return answerable * calibration.of_hits(scores, len(one.evidence)).astype(float)
