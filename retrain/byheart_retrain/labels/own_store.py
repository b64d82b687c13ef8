"""Queries for a store of one's own: from its labelled recalls, or drawn from its memories."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from byheart_retrain.labels.store_labels import labelled_queries
from byheart_retrain.queries import LabelledQuery
from byheart_store import Filter, InvalidInput, Memory, MemoryStore

FEWEST_LABELLED = 30
"""Fewer queries than this leave intervals too wide to say anything."""

MOST_KNOWN_ITEMS = 200
_WORDS_PER_QUERY = 4
_WORD = re.compile(r"[^\W_]{3,}")


@dataclass(frozen=True, slots=True)
class OwnQueries:
    """Queries with the sessions of the store's memories; `kind` says where the queries are from."""

    queries: list[LabelledQuery]
    sessions: Mapping[str, str]
    kind: str


async def own_queries(store: MemoryStore, namespaces: Sequence[str] = ()) -> OwnQueries:
    """The labelled recalls of a store; where there are too few, known-item queries.

    Raises:
        InvalidInput: the store holds nothing to ask for.
    """
    where = Filter(namespaces=tuple(namespaces))
    memories = [memory async for memory in store.memories(where)]
    sessions = {memory.id: memory.session for memory in memories if memory.session}
    kept = {memory.id for memory in memories}
    labelled = labelled_queries(label for label in await store.labels() if label.memory_id in kept)
    if len(labelled) >= FEWEST_LABELLED:
        return OwnQueries(labelled, sessions, "labelled")
    drawn = known_item_queries(memories)
    if not drawn:
        raise InvalidInput(
            "the store holds too little to be evaluated; remember something first, "
            "or give a benchmark: byheart eval PATH"
        )
    return OwnQueries(drawn, sessions, "known-item")


def known_item_queries(
    memories: Sequence[Memory], most: int = MOST_KNOWN_ITEMS, seed: int = 0
) -> list[LabelledQuery]:
    """Draw memories and ask for each by its rarest words, in their order.

    Known-item search as in Azzopardi, de Rijke and Balog (2007). What says too little to be told
    from others, or shares its words with more than it holds itself, is not drawn.
    """
    words = {memory.id: _words(memory.text) for memory in memories}
    rarity = Counter(word for own in words.values() for word in set(own))
    queries = []
    for memory in random.Random(seed).sample(list(memories), len(memories)):
        text = _known_item(words[memory.id], rarity)
        if text is not None:
            gold = frozenset([memory.id])
            queries.append(LabelledQuery(f"known-{memory.id}", text, gold, memory.namespace))
        if len(queries) == most:
            break
    return queries


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _known_item(words: Sequence[str], rarity: Mapping[str, int]) -> str | None:
    distinct = list(dict.fromkeys(words))
    if len(distinct) < 2 * _WORDS_PER_QUERY:
        return None
    rarest = set(sorted(distinct, key=lambda word: (rarity[word], word))[:_WORDS_PER_QUERY])
    return " ".join(word for word in distinct if word in rarest)
