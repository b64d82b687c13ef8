"""Memories that say the same as an answer, and so are no negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from byheart_retrain.mining.pools import Pool
from byheart_retrain.mining.rankings import Passage
from byheart_retrain.queries.linking import words
from byheart_store import MemoryStore

if TYPE_CHECKING:
    from byheart_retrain.mining.rankings import Floats

COPY = 0.95
"""Memories whose vectors have this cosine say the same."""


async def copies_of(
    store: MemoryStore, pools: Sequence[Pool], texts: Mapping[Passage, str]
) -> list[frozenset[str]]:
    """For each pool what says the same as an answer; a label outweighs a likeness."""
    names = sorted({name for pool in pools for name in pool.names})
    vectors = await store.vectors(names)
    rows = {name: row for row, name in enumerate(names)}
    copies = []
    for pool in pools:
        near = _near_answers(pool, vectors, rows) - set(pool.labelled)
        copies.append(frozenset(near | _same_words(pool, texts)))
    return copies


def _near_answers(pool: Pool, vectors: Floats, rows: Mapping[str, int]) -> set[str]:
    import numpy as np

    answers = vectors[[rows[name] for name in pool.positives]]
    cosines = vectors[[rows[name] for name in pool.names]] @ answers.T
    return {pool.names[row] for row, _ in np.argwhere(cosines >= COPY).tolist()}


def _same_words(pool: Pool, texts: Mapping[Passage, str]) -> set[str]:
    compared = {name: words(texts.get(pool.passage(name), "")) for name in pool.names}
    answers = {compared[name] for name in pool.positives}
    return {name for name, own in compared.items() if own in answers}
