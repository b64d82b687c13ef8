"""Fitting the few parameters of a recall to labels: how the legs are fused, what a score is worth.

What a fit gains is measured on queries that it did not see, and one that gains nothing is refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.benchmarks import Query
from byheart_retrain.metrics import Interval, expected_calibration_error, intervals, ndcg
from byheart_retrain.splitting import linked
from byheart_store import Filter, InvalidInput, MemoryStore, ModelUnavailable
from byheart_store.ranking import (
    Calibration,
    Evidence,
    Fusion,
    Tuning,
    best_of_passages,
    fused,
    hit_features,
    query_features,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

DEPTH = 10
FOLDS = 5
FEWEST_QUERIES = 30
VECTOR_WEIGHTS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.85)
POWERS = (1.5, 2.0)
"""Coarse, since a finer choice follows the noise of a few hundred labels."""
_PRIOR = 1.0
"""The inverse variance of the calibration around its default coefficients, features in 0..1."""

_MOST_STEPS = 200
_LONGEST_STEP = 1.0
_CLOSE = 1e-7


@dataclass(frozen=True, slots=True)
class Judged:
    """A query's evidence in a namespace, the memories' ids, and which of them answer.

    `cosines` (n,) are those of the memories' best passages.
    """

    query: Query
    evidence: Evidence
    cosines: Floats
    ids: tuple[str, ...]
    gold: frozenset[str]


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


async def judge(
    store: MemoryStore,
    queries: Sequence[Query],
    progress: Callable[[int], None] | None = None,
) -> list[Judged]:
    """Ask for the evidence of every query in its namespace, and in one where nothing answers it.

    A query without gold is taken at its word: nothing answers it.
    """
    namespaces = sorted({query.namespace for query in queries if query.namespace})
    draw = random.Random(0)
    judged = []
    for query in queries:
        judged.append(await _judged(store, query, query.namespace, query.gold))
        others = [name for name in namespaces if name != query.namespace]
        if query.gold and query.namespace and others:
            judged.append(await _judged(store, query, draw.choice(others), frozenset()))
        if progress is not None:
            progress(1)
    return judged


async def _judged(
    store: MemoryStore, query: Query, namespace: str | None, gold: frozenset[str]
) -> Judged:
    where = Filter(namespaces=(namespace,) if namespace else ())
    evidence, ids = await store.evidence(query.text, where)
    if evidence.cosines is None:
        raise ModelUnavailable("fit: the store has no vectors yet; run: byheart reindex")
    cosines = best_of_passages(evidence.cosines, evidence.first)
    return Judged(query, evidence, cosines.astype(float), ids, gold)


def fit(judged: Sequence[Judged], default: Tuning, *, seed: int = 0) -> Fit:
    """Fit to all queries; the gain is that of fits to the other folds, over all folds.

    Raises:
        InvalidInput: there are too few queries to tell a gain from chance, or all ask for one
            memory.
    """
    judged = [one for one in judged if len(one.evidence)]
    answered = [one for one in judged if one.gold]
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
    said: list[tuple[Floats, Floats, Floats]] = []
    for fold in parts:
        inside = [positions[id(one)] for one in fold]
        outside = np.setdiff1d(np.arange(len(answered)), inside)
        best = settings[int(values[:, outside].mean(axis=1).argmax())]
        gains[inside] = np.array(table[best])[inside] - before[inside]
        said.append(_held_out_relevance(judged, fold, replace(default, fusion=best)))
    chosen = settings[int(values.mean(axis=1).argmax())]
    return Fit(
        tuning=replace(
            default, fusion=chosen, calibration=calibrated(judged, chosen, default.calibration)
        ),
        gain=intervals(gains[:, None])[0],
        at_least=intervals(gains[:, None], confidence=0.9)[0].low,
        ece=_errors(said),
        queries=len(answered),
    )


def folds(judged: Sequence[Judged], seed: int) -> list[list[Judged]]:
    """Split so that no namespace stands on both sides, or, with few, no gold memory does."""
    namespaces = {one.query.namespace for one in judged}
    sharing = linked(one.gold for one in judged)
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        by_gold = sharing[min(one.gold)]
        key = one.query.namespace or "" if len(namespaces) >= FOLDS else by_gold
        groups.setdefault(key, []).append(one)
    shuffled = random.Random(seed).sample(sorted(groups), len(groups))
    found: list[list[Judged]] = [[] for _ in range(FOLDS)]
    for number, key in enumerate(shuffled):
        found[number % FOLDS] += groups[key]
    return [fold for fold in found if fold]


def tuned(judged: Sequence[Judged], default: Tuning) -> Tuning:
    """Fusion and calibration for a model that has none of its own yet.

    Raises:
        InvalidInput: no query has an answer to learn from.
    """
    judged = [one for one in judged if len(one.evidence)]
    answered = [one for one in judged if one.gold]
    if not answered:
        raise InvalidInput("fit: no query has an answer; label more recalls: byheart label")
    table = _scores_by_setting(answered, default.fusion)
    fusion = max(table, key=lambda setting: float(table[setting].mean()))
    return replace(
        default, fusion=fusion, calibration=calibrated(judged, fusion, default.calibration)
    )


def fusion_settings(default: Fusion) -> list[Fusion]:
    """The ways to fuse that are tried."""
    return [
        replace(default, vector=weight, power=power)
        for weight, power in product(VECTOR_WEIGHTS, POWERS)
    ]


def _scores_by_setting(judged: Sequence[Judged], default: Fusion) -> dict[Fusion, Floats]:
    return {setting: _ndcgs(judged, setting) for setting in fusion_settings(default)}


def _ndcgs(judged: Iterable[Judged], fusion: Fusion) -> Floats:
    import numpy as np

    return np.array([ndcg(_best(one, fusion), one.gold, DEPTH) for one in judged])


def _best(one: Judged, fusion: Fusion) -> list[str]:
    import numpy as np

    scores = fused(one.evidence, fusion)
    return [one.ids[position] for position in np.argsort(-scores, kind="stable")[:DEPTH]]


def calibrated(judged: Sequence[Judged], fusion: Fusion, default: Calibration) -> Calibration:
    """The calibration moved from the default as far as the labels ask for.

    Whether anything answers can be learnt only where some queries have no answer.
    """
    import numpy as np

    seen = [_features(one, fusion) for one in judged if len(one.evidence)]
    hits = [(rows, right) for _, rows, right, answered in seen if answered]
    hit = logistic(
        np.concatenate([rows for rows, _ in hits]),
        np.concatenate([right for _, right in hits]),
        np.array(default.hit),
    )
    answered = np.array([float(one[3]) for one in seen])
    vectors = np.array(default.vectors)
    if answered.min() < answered.max():
        vectors = logistic(np.array([one[0] for one in seen]), answered, vectors)
    return replace(default, hit=tuple(hit.tolist()), vectors=tuple(vectors.tolist()))


def _features(one: Judged, fusion: Fusion) -> tuple[Floats, Floats, Floats, bool]:
    """What the calibration reads of a query and of its first hits, and what was right."""
    import numpy as np

    scores = np.sort(fused(one.evidence, fusion))[::-1][:DEPTH]
    right = np.array([float(name in one.gold) for name in _best(one, fusion)])
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


def _held_out_relevance(
    judged: Sequence[Judged], fold: Sequence[Judged], tuning: Tuning
) -> tuple[Floats, Floats, Floats]:
    """Relevances of a fold's hits, as before and as fitted to the others, and what was right."""
    import numpy as np

    names = {one.query.id for one in fold}
    inside = [one for one in judged if one.query.id in names]
    outside = [one for one in judged if one.query.id not in names]
    fitted = calibrated(outside, tuning.fusion, tuning.calibration)
    before = [_relevances(one, tuning.fusion, tuning.calibration) for one in inside]
    after = [_relevances(one, tuning.fusion, fitted) for one in inside]
    right = [_features(one, tuning.fusion)[2] for one in inside]
    return np.concatenate(before), np.concatenate(after), np.concatenate(right)


def _relevances(one: Judged, fusion: Fusion, calibration: Calibration) -> Floats:
    import numpy as np

    scores = np.sort(fused(one.evidence, fusion))[::-1][:DEPTH]
    answerable = calibration.answerable(None, one.cosines, 1.0, len(one.cosines))
    return answerable * calibration.of_hits(scores, len(one.evidence)).astype(float)


def _errors(said: Sequence[tuple[Floats, Floats, Floats]]) -> tuple[float, float]:
    import numpy as np

    before, after, right = (np.concatenate(parts) for parts in zip(*said, strict=True))
    return expected_calibration_error(before, right), expected_calibration_error(after, right)
