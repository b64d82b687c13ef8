"""Hard negatives: what the recall that is served ranks high for a question and should not.

Both legs are asked, as in a recall. What looks like an answer without being labelled as one is
left out: copies of an answer, and most of what ranks above it (false negatives do more harm than
hard ones help; Qu et al., RocketQA, NAACL 2021).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.benchmarks import Query
from byheart_retrain.splitting import words
from byheart_store import WITH_REPLACED, Filter, MemoryStore, ModelUnavailable
from byheart_store.models import passage_texts
from byheart_store.ranking import (
    DEFAULT_TUNING,
    Evidence,
    Fusion,
    best_of_passages,
    best_passages,
    fused,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]
    Booleans: TypeAlias = NDArray[np.bool_]

NEGATIVES = 4
DEPTH = 30

COPY = 0.95
"""Memories whose vectors have this cosine say the same."""

MOST_ABOVE = 2
"""So many negatives may rank above the best answer. What does is often an answer that nobody
labelled; some are needed, since it is these that the model gets wrong."""

Passage: TypeAlias = tuple[str, int]
"""A memory's id and the number of its passage."""

Progress: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best memories for a query in fused order, as a reranker gets them.

    `ids`, the numbers of their `passages` that match best, `scores` (k,) and `gold` (k,).
    """

    query: Query
    ids: tuple[str, ...]
    passages: tuple[int, ...]
    scores: Floats
    gold: Booleans


@dataclass(frozen=True, slots=True)
class Example:
    """A memory that answers a query, and memories that don't, the labelled ones first.

    `texts` are what the encoder reads of the positive and of each negative, in that order.
    """

    query: Query
    positive: str
    negatives: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningStats:
    """What was mined, and what of the memories ranked high was left out, over all queries.

    `positives` are answers among them, `copies` say the same as one, `above` rank above the best.
    `labelled` of the negatives taken were judged not useful.
    """

    queries: int
    examples: int
    candidates: int
    positives: int
    copies: int
    above: int
    labelled: int
    mean_negatives: float
    without_negatives: int


@dataclass(frozen=True, slots=True)
class Mined:
    """Examples ready for training."""

    examples: list[Example]
    stats: MiningStats


@dataclass(frozen=True, slots=True)
class _Pool:
    """What may be chosen from for a query.

    `ranked` are the ids that a leg or both rank high, best first, `above` of them above the best
    answer; `positives` and `labelled` are the query's own, `random` some memories drawn.
    `passages` are the numbers of the best passages, where not the first.
    """

    query: Query
    ranked: tuple[str, ...]
    above: int
    answered: int
    positives: tuple[str, ...]
    labelled: tuple[str, ...]
    random: tuple[str, ...]
    passages: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """All memories that may stand in an example."""
        return (*self.positives, *self.labelled, *self.ranked, *self.random)

    def passage(self, name: str) -> Passage:
        """The passage of a memory that matches the query best."""
        return name, self.passages.get(name, 0)


async def ranked(
    store: MemoryStore,
    queries: Sequence[Query],
    depth: int = DEPTH,
    progress: Progress | None = None,
) -> list[Ranked]:
    """The top of the fused list for each query.

    Raises:
        ModelUnavailable, ModelMismatch: there is no model to ask with.
    """
    import numpy as np

    fusion = (await store.tuning() or DEFAULT_TUNING).fusion
    found = []
    async for query, evidence, ids in _asked(store, queries, progress):
        scores = fused(evidence, fusion)
        best = _best(scores, depth)
        names = tuple(ids[position] for position in best)
        gold = np.array([name in query.gold for name in names], bool)
        passages = tuple(best_passages(evidence, fusion, best))
        found.append(Ranked(query, names, passages, scores[best], gold))
    return found


async def mine(
    store: MemoryStore,
    queries: Sequence[Query],
    *,
    negatives: int = NEGATIVES,
    depth: int = DEPTH,
    seed: int = 0,
    progress: Progress | None = None,
) -> Mined:
    """Examples of each query with each of its answers, with hard negatives.

    Labelled negatives come first, then a draw from the best `depth` of each leg and of both fused,
    the higher ranked the likelier, then memories at random. `progress` gets how many were asked.

    Raises:
        ModelUnavailable, ModelMismatch: there is no model to ask with.
    """
    fusion = (await store.tuning() or DEFAULT_TUNING).fusion
    asked = _asked(store, queries, progress)
    drawn = [_pool(*one, fusion, depth, negatives, seed) async for one in asked]
    pools = await _filled(store, drawn, negatives, seed)
    texts = await texts_of_passages(
        store, (one.passage(name) for one in pools for name in one.names)
    )
    copies = await _copies(store, pools, texts)
    cleaned = [_cleaned(pool, left_out) for pool, left_out in zip(pools, copies, strict=True)]
    examples = [one for pool in cleaned for one in _examples(pool, texts, negatives, seed)]
    return Mined(examples, _stats(pools, copies, cleaned, examples))


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


async def _asked(
    store: MemoryStore, queries: Iterable[Query], progress: Progress | None
) -> AsyncIterator[tuple[Query, Evidence, tuple[str, ...]]]:
    """Each query with the evidence of the memories where it is asked, and their ids."""
    for query in queries:
        where = Filter(namespaces=(query.namespace,) if query.namespace else ())
        evidence, ids = await store.evidence(query.text, where)
        if evidence.cosines is None:
            raise ModelUnavailable("mining: the store has no vectors yet; run: byheart reindex")
        yield query, evidence, ids
        if progress is not None:
            progress(1)


def _best(scores: Floats, depth: int) -> Integers:
    """(n,) scores -> the places of the best `depth`, best first."""
    import numpy as np

    return np.argsort(-scores, kind="stable")[:depth]


def _pool(
    query: Query,
    evidence: Evidence,
    ids: Sequence[str],
    fusion: Fusion,
    depth: int,
    negatives: int,
    seed: int,
) -> _Pool:
    import numpy as np

    scores = fused(evidence, fusion)
    named = query.gold | query.negatives
    known = {name: position for position, name in enumerate(ids) if name in named}
    gold = sorted(known[name] for name in query.gold if name in known)
    labelled = sorted(
        (known[name] for name in query.negatives - query.gold if name in known),
        key=lambda position: (-scores[position], position),
    )
    found = _found(evidence, scores, fusion, depth)
    own = {*gold, *labelled}
    ranked_high = [position for position in found if position not in own]
    best = max((scores[position] for position in gold), default=float("inf"))
    taken = own | set(ranked_high)
    draw = random.Random(f"{seed} {query.id}")
    others = draw.sample(range(len(ids)), min(len(ids), len(taken) + _spare(negatives)))
    strangers = [position for position in others if position not in taken][: _spare(negatives)]
    positions = [*gold, *labelled, *ranked_high, *strangers]
    numbers = best_passages(evidence, fusion, np.array(positions, np.int64))
    return _Pool(
        query=query,
        ranked=tuple(ids[position] for position in ranked_high),
        above=sum(scores[position] > best for position in ranked_high),
        answered=len(set(found) & set(gold)),
        positives=tuple(ids[position] for position in gold),
        labelled=tuple(ids[position] for position in labelled),
        random=tuple(ids[position] for position in strangers),
        passages={
            ids[position]: number
            for position, number in zip(positions, numbers, strict=True)
            if number
        },
    )


def _spare(negatives: int) -> int:
    """So many memories are drawn at random, since some may be copies of an answer."""
    return 2 * negatives


def _found(evidence: Evidence, scores: Floats, fusion: Fusion, depth: int) -> list[int]:
    """The places of the best of either leg and of both fused, best first."""
    import numpy as np

    by_vector = fused(replace(evidence, text=None), fusion)
    found = {*_best(scores, depth).tolist(), *_best(by_vector, depth).tolist()}
    if evidence.text is not None:
        by_text = fused(replace(evidence, cosines=None), fusion, single_leg=True)
        matched = best_of_passages(evidence.text, evidence.first) > 0
        best = _best(np.where(matched, by_text, -np.inf), depth)
        found.update(best[matched[best]].tolist())
    return sorted(found, key=lambda position: (-scores[position], position))


async def _filled(
    store: MemoryStore, pools: Sequence[_Pool], negatives: int, seed: int
) -> list[_Pool]:
    """The pools, with memories of other namespaces for those whose own has too few."""
    short = {n for n, pool in enumerate(pools) if _choosable(pool) < _spare(negatives)}
    if not short:
        return list(pools)
    _, everything = await store.evidence(pools[min(short)].query.text)
    return [
        _with_others(pool, everything, negatives, seed) if number in short else pool
        for number, pool in enumerate(pools)
    ]


def _choosable(pool: _Pool) -> int:
    return len(pool.labelled) + len(pool.ranked) + len(pool.random)


def _with_others(pool: _Pool, everything: Sequence[str], negatives: int, seed: int) -> _Pool:
    known = {*pool.names, *pool.query.gold}
    draw = random.Random(f"{seed} {pool.query.id} elsewhere")
    count = min(len(everything), len(known) + _spare(negatives))
    others = [name for name in draw.sample(everything, count) if name not in known]
    return replace(pool, random=(*pool.random, *others[: _spare(negatives)]))


async def _copies(
    store: MemoryStore, pools: Sequence[_Pool], texts: Mapping[Passage, str]
) -> list[frozenset[str]]:
    """For each pool what says the same as an answer; a judgement outweighs a likeness."""
    names = sorted({name for pool in pools for name in pool.names})
    vectors = await store.vectors(names)
    rows = {name: row for row, name in enumerate(names)}
    found = []
    for pool in pools:
        near = _near(pool, vectors, rows) - set(pool.labelled)
        found.append(frozenset(near | _same(pool, texts)))
    return found


def _near(pool: _Pool, vectors: Floats, rows: Mapping[str, int]) -> set[str]:
    import numpy as np

    answers = vectors[[rows[name] for name in pool.positives]]
    cosines = vectors[[rows[name] for name in pool.names]] @ answers.T
    return {pool.names[row] for row, _ in np.argwhere(cosines >= COPY).tolist()}


def _same(pool: _Pool, texts: Mapping[Passage, str]) -> set[str]:
    compared = {name: words(texts.get(pool.passage(name), "")) for name in pool.names}
    answers = {compared[name] for name in pool.positives}
    return {name for name, own in compared.items() if own in answers}


def _cleaned(pool: _Pool, copies: frozenset[str]) -> _Pool:
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
    pool: _Pool, texts: Mapping[Passage, str], negatives: int, seed: int
) -> list[Example]:
    """An example for each answer of a query, each with a draw of its own."""

    def kept(names: Iterable[str]) -> list[str]:
        return [name for name in names if pool.passage(name) in texts]

    labelled, ranked_high, others = map(kept, (pool.labelled, pool.ranked, pool.random))
    found = []
    for positive in kept(pool.positives):
        draw = random.Random(f"{seed} {pool.query.id} {positive}")
        hard = _drawn(ranked_high, max(0, negatives - len(labelled)), draw)
        chosen = tuple([*labelled, *hard, *others][:negatives])
        read = tuple(texts[pool.passage(name)] for name in (positive, *chosen))
        found.append(Example(pool.query, positive, chosen, read))
    return found


def _drawn(names: Sequence[str], count: int, draw: random.Random) -> list[str]:
    """Draw names, each with a weight of one over its rank (Efraimidis and Spirakis 2006)."""
    keys = [draw.random() ** rank for rank in range(1, len(names) + 1)]
    best = sorted(range(len(names)), key=lambda position: -keys[position])[:count]
    return [names[position] for position in sorted(best)]


def _stats(
    pools: Sequence[_Pool],
    copies: Sequence[frozenset[str]],
    cleaned: Sequence[_Pool],
    examples: Sequence[Example],
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
