"""What the recall that is served ranks for a query, with all that it is ranked by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.progress import Advance
from byheart_retrain.queries import LabelledQuery
from byheart_store import WITH_REPLACED, Filter, MemoryStore, ModelUnavailable
from byheart_store.models import passage_texts
from byheart_store.ranking import DEFAULT_TUNING, Evidence, best_passages, fused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]

DEPTH = 30

Passage: TypeAlias = tuple[str, int]
"""A memory's id and the number of its passage."""


@dataclass(frozen=True, slots=True)
class RankedList:
    """The best memories for a query in fused order, as a reranker gets them.

    `numbers` are those of the passages that match best; `scores` and `gold` are (k,) arrays.
    """

    query: LabelledQuery
    ids: tuple[str, ...]
    numbers: tuple[int, ...]
    scores: Floats
    gold: Booleans

    @property
    def passages(self) -> list[Passage]:
        """Each memory's passage that matches the query best."""
        return list(zip(self.ids, self.numbers, strict=True))


async def rank(
    store: MemoryStore,
    queries: Sequence[LabelledQuery],
    depth: int = DEPTH,
    progress: Advance | None = None,
) -> list[RankedList]:
    """The top of the fused list for each query.

    Raises:
        ModelUnavailable, ModelMismatch: there is no model to ask with.
    """
    import numpy as np

    fusion = (await store.tuning() or DEFAULT_TUNING).fusion
    lists = []
    async for query, evidence, ids in evidence_of(store, queries, progress):
        scores = fused(evidence, fusion)
        best = best_positions(scores, depth)
        names = tuple(ids[position] for position in best)
        gold = np.array([name in query.gold for name in names], bool)
        numbers = tuple(best_passages(evidence, fusion, best))
        lists.append(RankedList(query, names, numbers, scores[best], gold))
    return lists


async def texts_of_passages(store: MemoryStore, passages: Iterable[Passage]) -> dict[Passage, str]:
    """What the encoder reads of each passage; those of memories forgotten meanwhile are missing."""
    numbers: dict[str, set[int]] = {}
    for name, number in passages:
        numbers.setdefault(name, set()).add(number)
    texts: dict[Passage, str] = {}
    async for memory in store.memories(WITH_REPLACED):
        if memory.id in numbers:
            read = passage_texts(memory.speaker, memory.text)
            texts |= {(memory.id, number): read[number] for number in numbers[memory.id]}
    return texts


async def evidence_of(
    store: MemoryStore, queries: Iterable[LabelledQuery], progress: Advance | None
) -> AsyncIterator[tuple[LabelledQuery, Evidence, tuple[str, ...]]]:
    """Each query with the evidence of the memories where it is asked, and their ids.

    Raises:
        ModelUnavailable, ModelMismatch: there is no model to ask with.
    """
    for query in queries:
        where = Filter(namespaces=(query.namespace,) if query.namespace else ())
        evidence, ids = await store.evidence(query.text, where)
        if evidence.cosines is None:
            raise ModelUnavailable("mining: the store has no vectors yet; run: byheart reindex")
        yield query, evidence, ids
        if progress is not None:
            progress(1)


def best_positions(scores: Floats, depth: int) -> Integers:
    """(n,) scores -> the positions of the best `depth`, best first."""
    import numpy as np

    return np.argsort(-scores, kind="stable")[:depth]
