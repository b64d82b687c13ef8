"""What the recall sees of labelled queries: the evidence that a fit learns from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.progress import Advance
from byheart_retrain.queries import LabelledQuery
from byheart_store import Filter, MemoryStore, ModelUnavailable
from byheart_store.ranking import Evidence, Fusion, best_of_passages, fused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

DEPTH = 10


@dataclass(frozen=True, slots=True)
class Observation:
    """A query's evidence in a namespace, the memories' ids, and which of them answer.

    `cosines` (n,) are those of the memories' best passages.
    """

    query: LabelledQuery
    evidence: Evidence
    cosines: Floats
    ids: tuple[str, ...]
    gold: frozenset[str]


async def observe(
    store: MemoryStore,
    queries: Sequence[LabelledQuery],
    progress: Advance | None = None,
) -> list[Observation]:
    """Ask for the evidence of every query in its namespace, and in one where nothing answers it.

    A query without gold is taken at its word: nothing answers it.
    """
    namespaces = sorted({query.namespace for query in queries if query.namespace})
    draw = random.Random(0)
    observations = []
    for query in queries:
        observations.append(await _observed(store, query, query.namespace, query.gold))
        others = [name for name in namespaces if name != query.namespace]
        if query.gold and query.namespace and others:
            observations.append(await _observed(store, query, draw.choice(others), frozenset()))
        if progress is not None:
            progress(1)
    return observations


async def _observed(
    store: MemoryStore, query: LabelledQuery, namespace: str | None, gold: frozenset[str]
) -> Observation:
    where = Filter(namespaces=(namespace,) if namespace else ())
    evidence, ids = await store.evidence(query.text, where)
    if evidence.cosines is None:
        raise ModelUnavailable("fit: the store has no vectors yet; run: byheart reindex")
    cosines = best_of_passages(evidence.cosines, evidence.first)
    return Observation(query, evidence, cosines.astype(float), ids, gold)


def best_ids(one: Observation, fusion: Fusion) -> list[str]:
    """The ids of the best memories, best first."""
    import numpy as np

    scores = fused(one.evidence, fusion)
    return [one.ids[position] for position in np.argsort(-scores, kind="stable")[:DEPTH]]
