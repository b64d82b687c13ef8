"""The labels of a store's recall log, and which labels are of use in a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from byheart_retrain.labels.merging import merged
from byheart_retrain.queries import LabelledQuery
from byheart_store import Filter, InvalidInput, Label, MemoryStore

FILE = "file"
"""The source of labels that no recall of the store led to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """What of the labels is of use in a store.

    `dropped` labels speak of memories that the store does not hold where the question is asked;
    `left_out` questions have no positive label left. `sources` counts the labels of each source.
    """

    queries: int
    positives: int
    negatives: int
    dropped: int
    left_out: int
    sources: Mapping[str, int]

    @property
    def labels(self) -> int:
        """The number of labels that are of use."""
        return self.positives + self.negatives


async def store_queries(store: MemoryStore) -> list[LabelledQuery]:
    """The labels of the store's own recalls."""
    return labelled_queries(await store.labels())


def labelled_queries(labels: Iterable[Label]) -> list[LabelledQuery]:
    """One query per question and namespace, of those that something was found useful for."""
    by_question: dict[tuple[str, str], list[Label]] = {}
    for label in labels:
        by_question.setdefault((label.query, label.namespace), []).append(label)
    useful = [own for own in by_question.values() if any(label.useful for label in own)]
    return [_of_labels(f"label-{number}", own) for number, own in enumerate(useful)]


async def usable(
    store: MemoryStore, queries: Sequence[LabelledQuery]
) -> tuple[list[LabelledQuery], LabelCounts]:
    """The questions that memories of the store answer, and what was left out.

    A question without a namespace gets that of its answers where they have one in common.

    Raises:
        InvalidInput: no question is left.
    """
    named = {name for query in queries for name in query.gold | query.negatives}
    held = {
        memory.id: memory.namespace
        async for memory in store.memories(Filter())
        if memory.id in named
    }
    restricted = merged(_restricted(query, held) for query in queries)
    kept = [query for query in restricted if query.gold]
    if not kept:
        raise InvalidInput(_nothing_left(len(restricted)))
    sources = {
        (label.query, label.namespace, label.memory_id): label.source
        for label in await store.labels()
    }
    pairs = [(query, name) for query in kept for name in sorted(query.gold | query.negatives)]
    return kept, LabelCounts(
        queries=len(kept),
        positives=sum(len(query.gold) for query in kept),
        negatives=sum(len(query.negatives) for query in kept),
        dropped=_count(queries) - _count(_restricted(query, held) for query in queries),
        left_out=len(restricted) - len(kept),
        sources=Counter(
            sources.get((query.text, query.namespace or "", name), FILE) for query, name in pairs
        ),
    )


def _nothing_left(count: int) -> str:
    if not count:
        return "labels: there are none; label some recalls first: byheart label"
    return (
        f"labels: no memory that answers one of the {count} questions is in the store, in the "
        "namespace where it is asked; import the memories that the labels speak of: byheart import"
    )


def _restricted(query: LabelledQuery, held: Mapping[str, str]) -> LabelledQuery:
    """The query with the memories that can be found where it is asked."""
    where = {held[name] for name in query.gold if name in held}
    namespace = query.namespace or (min(where) if len(where) == 1 else None)
    gold, negatives = (
        frozenset(name for name in names if name in held and namespace in (None, held[name]))
        for names in (query.gold, query.negatives)
    )
    return replace(query, namespace=namespace, gold=gold, negatives=negatives)


def _count(queries: Iterable[LabelledQuery]) -> int:
    return sum(len(query.gold) + len(query.negatives) for query in queries)


def _of_labels(name: str, labels: Sequence[Label]) -> LabelledQuery:
    useful, useless = (
        frozenset(label.memory_id for label in labels if label.useful is wanted)
        for wanted in (True, False)
    )
    types = [label.type for label in labels if label.useful]
    one = labels[0]
    return LabelledQuery(name, one.query, useful, one.namespace, types[-1], negatives=useless)
