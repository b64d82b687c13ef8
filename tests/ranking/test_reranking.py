"""Reranking: how the second model's word is blended in, and how much of the list it reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byheart_store.ranking.reranking import readable, reranked

NUMBERS = st.floats(-100, 100, width=32)


@st.composite
def lists(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of n memories, the places of the best k, and what the second model says of those."""
    count = draw(st.integers(2, 30))
    scores = draw(arrays(np.float32, count, elements=NUMBERS))
    positions = np.argsort(-scores, kind="stable")[: draw(st.integers(2, count))]
    return scores, positions, draw(arrays(np.float32, len(positions), elements=NUMBERS))


def test_without_weight_nothing_changes() -> None:
    scores = np.array([3.0, 2.0, 1.0], np.float32)
    assert reranked(scores, np.array([0, 1]), np.array([0.0, 9.0]), 0.0) is scores


def test_with_all_the_weight_the_second_model_decides() -> None:
    scores = np.array([3.0, 2.0, 1.0, 0.0], np.float32)
    after = reranked(scores, np.array([0, 1, 2]), np.array([0.1, 0.2, 0.9], np.float32), 1.0)
    assert np.argsort(-after).tolist() == [2, 1, 0, 3]


def test_a_blend_lets_both_speak() -> None:
    scores = np.array([10.0, 9.9, 0.0], np.float32)
    after = reranked(scores, np.arange(3), np.array([0.0, 1.0, 0.9], np.float32), 0.3)
    assert np.argsort(-after).tolist() == [1, 0, 2]


@given(lists(), st.floats(0.05, 1))
def test_what_was_not_read_keeps_its_score(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], weight: float
) -> None:
    scores, positions, read = case
    after = reranked(scores, positions, read, weight)
    others = np.setdiff1d(np.arange(len(scores)), positions)
    assert np.array_equal(after[others], scores[others])


@given(lists(), st.floats(0.05, 1))
def test_what_was_read_stays_within_the_scores_that_it_had(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], weight: float
) -> None:
    scores, positions, read = case
    after = reranked(scores, positions, read, weight)[positions]
    room = 1e-5 * max(1.0, float(np.abs(scores).max()))
    assert after.min() >= scores[positions].min() - room
    assert after.max() <= scores[positions].max() + room


@given(lists(), st.floats(0.05, 1))
def test_agreeing_models_change_no_order(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], weight: float
) -> None:
    scores, positions, _ = case
    after = reranked(scores, positions, scores[positions], weight)[positions]
    assert (np.diff(after) <= 1e-4 * max(1.0, float(np.abs(scores).max()))).all()


@pytest.mark.parametrize(
    ("lengths", "tokens", "count"),
    [
        ([50, 50, 50, 50], 200, 4),
        ([50, 50, 50, 50], 199, 3),
        ([50, 50, 50, 50], 10, 2),
        ([500], 10, 1),
        ([], 100, 0),
    ],
)
def test_as_many_are_read_as_the_tokens_allow_and_two_at_least(
    lengths: list[int], tokens: int, count: int
) -> None:
    assert readable(lengths, tokens) == count
