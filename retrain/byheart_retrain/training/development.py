"""The development questions, to be asked of an embedding that is still in training.

Everything but the cosines is the deployed pipeline's own evidence, so the score of an embedding
is what the whole recall would reach with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.evaluation.metrics import ndcg
from byheart_retrain.progress import Advance
from byheart_retrain.queries import LabelledQuery
from byheart_store import Filter, MemoryStore
from byheart_store.models import passage_texts
from byheart_store.ranking import NEIGHBOURS, Evidence, Fusion, best_of_passages, fused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

DEPTH = 10

MOST_MEMORIES = 2_000
MOST_OF_A_LEG = 400
"""Of a large namespace, so many of each leg's best memories stand for all: the others can't win."""


@dataclass(frozen=True, slots=True)
class _Asked:
    query: LabelledQuery
    evidence: Evidence
    ids: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DevelopmentSet:
    """Questions with their evidence; their `rows` point to `passages`, which the encoder reads."""

    asked: list[_Asked]
    passages: list[str]

    def score(self, encode: Callable[[Sequence[str]], Floats], settings: Sequence[Fusion]) -> float:
        """Mean NDCG@10 of the whole ranking with the vectors that `encode` makes.

        Of the ways to fuse, the best for these vectors counts: it moves with the model.
        """
        vectors = encode(self.passages)
        questions = encode([one.query.text for one in self.asked])
        cosines = [
            vectors[list(one.rows)] @ question
            for one, question in zip(self.asked, questions, strict=True)
        ]
        return max(self._mean(cosines, fusion) for fusion in settings)

    def _mean(self, cosines: Sequence[Floats], fusion: Fusion) -> float:
        scores = [_ndcg(one, own, fusion) for one, own in zip(self.asked, cosines, strict=True)]
        return sum(scores) / len(scores)


async def development_set(
    store: MemoryStore, queries: Sequence[LabelledQuery], progress: Advance | None = None
) -> DevelopmentSet:
    """Gather what the deployed pipeline knows of the queries, and the passages to be encoded."""
    asked: list[tuple[LabelledQuery, Evidence, tuple[str, ...]]] = []
    for query in queries:
        where = Filter(namespaces=(query.namespace,) if query.namespace else ())
        asked.append((query, *narrowed(*await store.evidence(query.text, where), query.gold)))
        if progress is not None:
            progress(1)
    texts = await passages_of(store, {name for _, _, ids in asked for name in ids})
    # What was forgotten meanwhile takes its questions along.
    asked = [one for one in asked if all(name in texts for name in one[2])]
    positions: dict[str, range] = {}
    passages: list[str] = []
    for name, parts in texts.items():
        positions[name] = range(len(passages), len(passages) + len(parts))
        passages += parts
    return DevelopmentSet(
        [
            _Asked(query, evidence, ids, tuple(row for name in ids for row in positions[name]))
            for query, evidence, ids in asked
        ],
        passages,
    )


async def passages_of(store: MemoryStore, ids: set[str]) -> dict[str, list[str]]:
    """What the encoder reads of each memory, one text per passage."""
    return {
        memory.id: passage_texts(memory.speaker, memory.text)
        async for memory in store.memories()
        if memory.id in ids
    }


def narrowed(
    evidence: Evidence, ids: tuple[str, ...], gold: frozenset[str], most: int = MOST_OF_A_LEG
) -> tuple[Evidence, tuple[str, ...]]:
    """The evidence of each leg's best memories and of the gold ones, in the same order."""
    import numpy as np

    if len(ids) <= MOST_MEMORIES:
        return evidence, ids
    kept = np.array([name in gold for name in ids], bool)
    for leg in (evidence.text, evidence.cosines):
        if leg is not None and len(ids):
            kept[np.argsort(-best_of_passages(leg, evidence.first), kind="stable")[:most]] = True
    # The turns around them speak for them, and must stay their neighbours.
    kept = np.convolve(kept, np.ones(2 * len(NEIGHBOURS) + 1), "same") > 0
    counts = np.diff(evidence.first)
    rows = np.repeat(kept, counts)
    return (
        replace(
            evidence,
            memories=evidence.memories[kept],
            sessions=evidence.sessions[kept],
            ages=evidence.ages[kept],
            first=np.concatenate([[0], np.cumsum(counts[kept])]),
            rows=evidence.rows[rows],
            text=None if evidence.text is None else evidence.text[rows],
            cosines=None if evidence.cosines is None else evidence.cosines[rows],
        ),
        tuple(np.array(ids, object)[kept].tolist()),
    )


def _ndcg(one: _Asked, cosines: Floats, fusion: Fusion) -> float:
    import numpy as np

    scores = fused(replace(one.evidence, cosines=cosines), fusion)
    best = np.argsort(-scores, kind="stable")[:DEPTH]
    return ndcg([one.ids[position] for position in best], one.query.gold, DEPTH)
