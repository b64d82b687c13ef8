"""What a leg ranks by itself, and what a recall without vectors ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from byheart_store.ranking.evidence import Evidence
from byheart_store.ranking.fusion import Fusion, leg
from byheart_store.ranking.order import fused


def evidence() -> Evidence:
    """Four turns of one session, of which the second and third are found by their words."""
    text = np.array([0, 9, 1, 0], np.float32)
    return Evidence(
        memories=np.arange(4),
        sessions=np.zeros(4, np.int64),
        ages=np.full(4, np.nan, np.float32),
        first=np.arange(5),
        rows=np.arange(4),
        admitted=4,
        most_text=20.0,
        text=text,
        cosines=None,
    )


def test_words_alone_are_ranked_by_their_scores_and_nothing_else() -> None:
    found = evidence()
    scores = fused(found, Fusion(), single_leg=True)
    np.testing.assert_array_equal(
        scores, leg(np.array([0, 9, 1, 0], np.float32), found.first, Fusion())
    )


def test_a_recall_without_vectors_still_counts_the_neighbours() -> None:
    scores = fused(evidence(), Fusion())
    assert scores[0] > scores[3]


def test_vectors_alone_are_ranked_by_their_cosines() -> None:
    near = np.array([0.1, 0.9, 0.3, 0.2], np.float32)
    found = replace(evidence(), text=None, cosines=near)
    assert np.argsort(-fused(found, Fusion(), single_leg=True)).tolist() == [1, 2, 3, 0]
