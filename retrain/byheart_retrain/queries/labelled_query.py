"""A query with its relevance judgements."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query asked in one namespace; `gold` are the ids that answer it, none if nothing does.

    `gold_sessions` is given where sessions were labelled themselves; otherwise they are those of
    the gold memories. `negatives` are memories that were labelled as no answer.
    """

    id: str
    text: str
    gold: frozenset[str]
    namespace: str | None = None
    type: str | None = None
    gold_sessions: frozenset[str] | None = None
    negatives: frozenset[str] = frozenset()


def asked_elsewhere(queries: Sequence[LabelledQuery], seed: int = 0) -> list[LabelledQuery]:
    """Each answerable query once more, in another namespace, drawn at random.

    Nothing answers it there; its type is "elsewhere".
    """
    namespaces = sorted({query.namespace for query in queries if query.namespace})
    draw = random.Random(seed)
    moved = []
    for query in queries:
        others = [name for name in namespaces if name != query.namespace]
        if query.namespace and query.gold and others:
            nothing: frozenset[str] = frozenset()
            moved.append(
                replace(
                    query,
                    id=f"{query.id}@elsewhere",
                    gold=nothing,
                    gold_sessions=nothing,
                    negatives=nothing,
                    namespace=draw.choice(others),
                    type="elsewhere",
                )
            )
    return moved
