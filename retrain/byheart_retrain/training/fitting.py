"""Fitting the few parameters of a recall to labels: how the legs are fused, what a score is worth.

What a fit gains is measured on queries that it did not see, and one that gains nothing is refused.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.evaluation.metrics import (
    Interval,
    expected_calibration_error,
    intervals,
    ndcg,
)
from byheart_retrain.queries.linking import linked
from byheart_retrain.training.calibration import calibrated, observed_features, relevances
from byheart_retrain.training.observations import DEPTH, Observation, best_ids
from byheart_store import InvalidInput
from byheart_store.ranking import Fusion, Tuning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

FOLDS = 5
FEWEST_QUERIES = 30
VECTOR_WEIGHTS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.85)
POWERS = (1.5, 2.0)
"""Coarse, since a finer choice follows the noise of a few hundred labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Fitted parameters, what they gain on queries not seen, and whether that is a gain at all.

    `gain` is the difference in NDCG@10, `at_least` what it exceeds at a confidence of 95%; `ece`
    is the expected calibration error before and after.
    """

    tuning: Tuning
    gain: Interval
    at_least: float
    ece: tuple[float, float]
    queries: int

    @property
    def helps(self) -> bool:
        """Whether there is a gain: a one-sided question, so one-sided bounds answer it."""
        return self.at_least > 0


def fit(observations: Sequence[Observation], default: Tuning, *, seed: int = 0) -> Fit:
    """Fit to all queries; the gain is that of fits to the other folds, over all folds.

    Raises:
        InvalidInput: there are too few queries to tell a gain from chance, or all ask for one
            memory.
    """
    observations = [one for one in observations if len(one.evidence)]
    answered = [one for one in observations if one.gold]
    if len(answered) < FEWEST_QUERIES:
        raise InvalidInput(
            f"fit: {len(answered)} labelled queries are too few, {FEWEST_QUERIES} are needed; "
            "label more recalls: byheart label"
        )
    parts = folds(answered, seed)
    if len(parts) < 2:
        raise InvalidInput(
            "fit: one memory answers all the labelled queries, so none is left to measure a gain "
            "on; label recalls of other memories: byheart label"
        )
    import numpy as np

    table = _scores_by_setting(answered, default.fusion)
    settings = list(table)
    values = np.array([table[setting] for setting in settings])
    positions = {id(one): position for position, one in enumerate(answered)}
    before = _ndcgs(answered, default.fusion)
    gains = np.zeros(len(answered))
    held_out: list[tuple[Floats, Floats, Floats]] = []
    for fold in parts:
        inside = [positions[id(one)] for one in fold]
        outside = np.setdiff1d(np.arange(len(answered)), inside)
        best = settings[int(values[:, outside].mean(axis=1).argmax())]
        gains[inside] = np.array(table[best])[inside] - before[inside]
        held_out.append(_held_out_relevance(observations, fold, replace(default, fusion=best)))
    chosen = settings[int(values.mean(axis=1).argmax())]
    return Fit(
        tuning=replace(
            default,
            fusion=chosen,
            calibration=calibrated(observations, chosen, default.calibration),
        ),
        gain=intervals(gains[:, None])[0],
        at_least=intervals(gains[:, None], confidence=0.9)[0].low,
        ece=_errors(held_out),
        queries=len(answered),
    )


def folds(observations: Sequence[Observation], seed: int) -> list[list[Observation]]:
    """Split so that no namespace stands on both sides, or, with few, no gold memory does."""
    namespaces = {one.query.namespace for one in observations}
    sharing = linked(one.gold for one in observations)
    groups: dict[str, list[Observation]] = {}
    for one in observations:
        by_gold = sharing[min(one.gold)]
        key = one.query.namespace or "" if len(namespaces) >= FOLDS else by_gold
        groups.setdefault(key, []).append(one)
    shuffled = random.Random(seed).sample(sorted(groups), len(groups))
    parts: list[list[Observation]] = [[] for _ in range(FOLDS)]
    for number, key in enumerate(shuffled):
        parts[number % FOLDS] += groups[key]
    return [fold for fold in parts if fold]


def tuned(observations: Sequence[Observation], default: Tuning) -> Tuning:
    """Fusion and calibration for a model that has none of its own yet.

    Raises:
        InvalidInput: no query has an answer to learn from.
    """
    observations = [one for one in observations if len(one.evidence)]
    answered = [one for one in observations if one.gold]
    if not answered:
        raise InvalidInput("fit: no query has an answer; label more recalls: byheart label")
    table = _scores_by_setting(answered, default.fusion)
    fusion = max(table, key=lambda setting: float(table[setting].mean()))
    return replace(
        default, fusion=fusion, calibration=calibrated(observations, fusion, default.calibration)
    )


def fusion_settings(default: Fusion) -> list[Fusion]:
    """The ways to fuse that are tried."""
    return [
        replace(default, vector=weight, power=power)
        for weight, power in product(VECTOR_WEIGHTS, POWERS)
    ]


def _scores_by_setting(
    observations: Sequence[Observation], default: Fusion
) -> dict[Fusion, Floats]:
    return {setting: _ndcgs(observations, setting) for setting in fusion_settings(default)}


def _ndcgs(observations: Iterable[Observation], fusion: Fusion) -> Floats:
    import numpy as np

    return np.array([ndcg(best_ids(one, fusion), one.gold, DEPTH) for one in observations])


def _held_out_relevance(
    observations: Sequence[Observation], fold: Sequence[Observation], tuning: Tuning
) -> tuple[Floats, Floats, Floats]:
    """Relevances of a fold's hits, as before and as fitted to the others, and what was right."""
    import numpy as np

    names = {one.query.id for one in fold}
    inside = [one for one in observations if one.query.id in names]
    outside = [one for one in observations if one.query.id not in names]
    fitted = calibrated(outside, tuning.fusion, tuning.calibration)
    before = [relevances(one, tuning.fusion, tuning.calibration) for one in inside]
    after = [relevances(one, tuning.fusion, fitted) for one in inside]
    right = [observed_features(one, tuning.fusion)[2] for one in inside]
    return np.concatenate(before), np.concatenate(after), np.concatenate(right)


def _errors(held_out: Sequence[tuple[Floats, Floats, Floats]]) -> tuple[float, float]:
    import numpy as np

    before, after, right = (np.concatenate(parts) for parts in zip(*held_out, strict=True))
    return expected_calibration_error(before, right), expected_calibration_error(after, right)
