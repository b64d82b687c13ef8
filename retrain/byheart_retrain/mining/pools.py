"""The memories that the examples of a query may be made of."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from byheart_retrain.mining.rankings import Passage, best_positions
from byheart_retrain.queries import LabelledQuery
from byheart_store import MemoryStore
from byheart_store.ranking import Evidence, Fusion, best_of_passages, best_passages, fused

if TYPE_CHECKING:
    from byheart_retrain.mining.rankings import Floats


@dataclass(frozen=True, slots=True)
class Pool:
    """What may be chosen from for a query.

    `ranked` are the ids that a leg or both rank high, best first, `above` of them above the best
    answer; `positives` and `labelled` are the query's own, `random` some memories drawn.
    `numbers` are those of the best passages, where not the first.
    """

    query: LabelledQuery
    ranked: tuple[str, ...]
    above: int
    answered: int
    positives: tuple[str, ...]
    labelled: tuple[str, ...]
    random: tuple[str, ...]
    numbers: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """All memories that may stand in an example."""
        return (*self.positives, *self.labelled, *self.ranked, *self.random)

    def passage(self, name: str) -> Passage:
        """The passage of a memory that matches the query best."""
        return name, self.numbers.get(name, 0)


def pool_of(
    query: LabelledQuery,
    evidence: Evidence,
    ids: Sequence[str],
    fusion: Fusion,
    depth: int,
    negatives: int,
    seed: int,
) -> Pool:
    """What a query's examples may be made of, from the evidence where it is asked."""
    import numpy as np

    scores = fused(evidence, fusion)
    named = query.gold | query.negatives
    positions_of = {name: position for position, name in enumerate(ids) if name in named}
    gold = sorted(positions_of[name] for name in query.gold if name in positions_of)
    labelled = sorted(
        (positions_of[name] for name in query.negatives - query.gold if name in positions_of),
        key=lambda position: (-scores[position], position),
    )
    high = _ranked_high(evidence, scores, fusion, depth)
    own = {*gold, *labelled}
    ranked_high = [position for position in high if position not in own]
    best = max((scores[position] for position in gold), default=float("inf"))
    taken = own | set(ranked_high)
    draw = random.Random(f"{seed} {query.id}")
    others = draw.sample(range(len(ids)), min(len(ids), len(taken) + spare(negatives)))
    drawn = [position for position in others if position not in taken][: spare(negatives)]
    positions = [*gold, *labelled, *ranked_high, *drawn]
    numbers = best_passages(evidence, fusion, np.array(positions, np.int64))
    return Pool(
        query=query,
        ranked=tuple(ids[position] for position in ranked_high),
        above=sum(scores[position] > best for position in ranked_high),
        answered=len(set(high) & set(gold)),
        positives=tuple(ids[position] for position in gold),
        labelled=tuple(ids[position] for position in labelled),
        random=tuple(ids[position] for position in drawn),
        numbers={
            ids[position]: number
            for position, number in zip(positions, numbers, strict=True)
            if number
        },
    )


def spare(negatives: int) -> int:
    """So many memories are drawn at random, since some may be copies of an answer."""
    return 2 * negatives


def _ranked_high(evidence: Evidence, scores: Floats, fusion: Fusion, depth: int) -> list[int]:
    """The positions of the best of either leg and of both fused, best first."""
    import numpy as np

    by_vector = fused(replace(evidence, text=None), fusion)
    high = {*best_positions(scores, depth).tolist(), *best_positions(by_vector, depth).tolist()}
    if evidence.text is not None:
        by_text = fused(replace(evidence, cosines=None), fusion, single_leg=True)
        matched = best_of_passages(evidence.text, evidence.first) > 0
        best = best_positions(np.where(matched, by_text, -np.inf), depth)
        high.update(best[matched[best]].tolist())
    return sorted(high, key=lambda position: (-scores[position], position))


async def filled(
    store: MemoryStore, pools: Sequence[Pool], negatives: int, seed: int
) -> list[Pool]:
    """The pools, with memories of other namespaces for those whose own has too few."""
    short = {n for n, pool in enumerate(pools) if _choosable(pool) < spare(negatives)}
    if not short:
        return list(pools)
    _, everything = await store.evidence(pools[min(short)].query.text)
    return [
        _with_others(pool, everything, negatives, seed) if number in short else pool
        for number, pool in enumerate(pools)
    ]


def _choosable(pool: Pool) -> int:
    return len(pool.labelled) + len(pool.ranked) + len(pool.random)


def _with_others(pool: Pool, everything: Sequence[str], negatives: int, seed: int) -> Pool:
    taken = {*pool.names, *pool.query.gold}
    draw = random.Random(f"{seed} {pool.query.id} elsewhere")
    count = min(len(everything), len(taken) + spare(negatives))
    others = [name for name in draw.sample(everything, count) if name not in taken]
    return replace(pool, random=(*pool.random, *others[: spare(negatives)]))
