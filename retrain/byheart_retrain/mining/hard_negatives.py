"""Hard negatives: what the recall that is served ranks high for a question and should not.

Both legs are asked, as in a recall. What looks like an answer without being labelled as one is
left out: copies of an answer, and most of what ranks above it (false negatives do more harm than
hard ones help; Qu et al., RocketQA, NAACL 2021).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from byheart_retrain.mining.copies import copies_of
from byheart_retrain.mining.examples import MinedExample, MiningResult, MiningStats
from byheart_retrain.mining.pools import Pool, filled, pool_of
from byheart_retrain.mining.rankings import DEPTH, Passage, evidence_of, texts_of_passages
from byheart_retrain.progress import Advance
from byheart_retrain.queries import LabelledQuery
from byheart_store import MemoryStore
from byheart_store.ranking import DEFAULT_TUNING

NEGATIVES = 4

MOST_ABOVE = 2
"""So many negatives may rank above the best answer. What does is often an answer that nobody
labelled; some are needed, since it is these that the model gets wrong."""


async def mine(
    store: MemoryStore,
    queries: Sequence[LabelledQuery],
    *,
    negatives: int = NEGATIVES,
    depth: int = DEPTH,
    seed: int = 0,
    progress: Advance | None = None,
) -> MiningResult:
    """Examples of each query with each of its answers, with hard negatives.

    Labelled negatives come first, then a draw from the best `depth` of each leg and of both fused,
    the higher ranked the likelier, then memories at random. `progress` gets how many were asked.

    Raises:
        ModelUnavailable, ModelMismatch: there is no model to ask with.
    """
    fusion = (await store.tuning() or DEFAULT_TUNING).fusion
    asked = evidence_of(store, queries, progress)
    drawn = [pool_of(*one, fusion, depth, negatives, seed) async for one in asked]
    pools = await filled(store, drawn, negatives, seed)
    texts = await texts_of_passages(
        store, (one.passage(name) for one in pools for name in one.names)
    )
    copies = await copies_of(store, pools, texts)
    cleaned = [_cleaned(pool, left_out) for pool, left_out in zip(pools, copies, strict=True)]
    examples = [one for pool in cleaned for one in _examples(pool, texts, negatives, seed)]
    return MiningResult(examples, _stats(pools, copies, cleaned, examples))


def _cleaned(pool: Pool, copies: frozenset[str]) -> Pool:
    """The pool without copies of an answer and most of what ranks above the best one."""
    above, below, labelled, others = (
        tuple(name for name in names if name not in copies)
        for names in (
            pool.ranked[: pool.above],
            pool.ranked[pool.above :],
            pool.labelled,
            pool.random,
        )
    )
    # The higher a memory stands above the answer, the likelier it is one itself.
    kept = above[-MOST_ABOVE:]
    return replace(pool, ranked=(*kept, *below), above=len(kept), labelled=labelled, random=others)


def _examples(
    pool: Pool, texts: Mapping[Passage, str], negatives: int, seed: int
) -> list[MinedExample]:
    """An example for each answer of a query, each with a draw of its own."""

    def kept(names: Iterable[str]) -> list[str]:
        return [name for name in names if pool.passage(name) in texts]

    labelled, ranked_high, others = map(kept, (pool.labelled, pool.ranked, pool.random))
    examples = []
    for positive in kept(pool.positives):
        draw = random.Random(f"{seed} {pool.query.id} {positive}")
        hard = _drawn(ranked_high, max(0, negatives - len(labelled)), draw)
        chosen = tuple([*labelled, *hard, *others][:negatives])
        read = tuple(texts[pool.passage(name)] for name in (positive, *chosen))
        examples.append(MinedExample(pool.query, positive, chosen, read))
    return examples


def _drawn(names: Sequence[str], count: int, draw: random.Random) -> list[str]:
    """Draw names, each with a weight of one over its rank (Efraimidis and Spirakis 2006)."""
    keys = [draw.random() ** rank for rank in range(1, len(names) + 1)]
    best = sorted(range(len(names)), key=lambda position: -keys[position])[:count]
    return [names[position] for position in sorted(best)]


def _stats(
    pools: Sequence[Pool],
    copies: Sequence[frozenset[str]],
    cleaned: Sequence[Pool],
    examples: Sequence[MinedExample],
) -> MiningStats:
    candidates = sum(len(pool.ranked) for pool in pools)
    positives = sum(pool.answered for pool in pools)
    copied = sum(
        len(left_out.intersection(pool.ranked))
        for pool, left_out in zip(pools, copies, strict=True)
    )
    taken = sum(len(example.negatives) for example in examples)
    return MiningStats(
        queries=len(pools),
        examples=len(examples),
        candidates=candidates + positives,
        positives=positives,
        copies=copied,
        above=candidates - copied - sum(len(pool.ranked) for pool in cleaned),
        labelled=sum(len(one.query.negatives.intersection(one.negatives)) for one in examples),
        mean_negatives=taken / max(1, len(examples)),
        without_negatives=len({one.query.id for one in examples if not one.negatives}),
    )
