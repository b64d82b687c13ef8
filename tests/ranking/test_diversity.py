"""Diversity: restatements yield to what says something else, and nothing else is moved."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from byheart_store.ranking.diversity import Diversity, diversified, redundancy

Floats: TypeAlias = NDArray[np.float32]

PLAIN = Diversity()


def unit_rows(*angles: float) -> Floats:
    """Vectors in a plane, by their angles in degrees."""
    turned = np.radians(np.array(angles, np.float64))
    return np.column_stack([np.cos(turned), np.sin(turned)]).astype(np.float32)


def falling(count: int) -> Floats:
    return np.linspace(3, 1, count, dtype=np.float32)


@st.composite
def hits(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Falling scores, and vectors of which some are alike, some copies, and some not known."""
    scores = draw(st.lists(st.floats(-9, 9, width=32), max_size=20).map(sorted))[::-1]
    size = len(scores)
    vectors = unit_rows(*draw(st.lists(st.integers(0, 359), min_size=size, max_size=size)))
    known = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return np.array(scores, np.float32), vectors * np.array(known, np.float32)[:, None]


limits = st.integers(1, 30)


@given(hits(), limits)
def test_a_balance_of_one_leaves_the_order_alone(found: tuple[Floats, Floats], limit: int) -> None:
    chosen = diversified(*found, limit, Diversity(balance=1.0))
    assert chosen == list(range(min(limit, len(found[0]))))


@given(hits(), limits, st.floats(0, 1), st.floats(0, 0.99))
def test_places_are_chosen_once_and_as_many_as_wanted(
    found: tuple[Floats, Floats], limit: int, balance: float, alike: float
) -> None:
    chosen = diversified(*found, limit, Diversity(balance=balance, alike=alike))
    assert len(chosen) == len(set(chosen)) == min(limit, len(found[0]))
    assert set(chosen) <= set(range(len(found[0])))


@given(hits(), limits)
def test_a_smaller_limit_gives_the_beginning_of_a_larger_one(
    found: tuple[Floats, Floats], limit: int
) -> None:
    assert diversified(*found, 99, PLAIN)[:limit] == diversified(*found, limit, PLAIN)


@given(hits())
def test_the_best_hit_stays_first(found: tuple[Floats, Floats]) -> None:
    assert diversified(*found, 1, PLAIN) == [0][: len(found[0])]


def test_a_copy_yields_to_another_text() -> None:
    assert diversified(falling(4), unit_rows(0, 0, 90, 180), 3, PLAIN) == [0, 2, 1]


def test_a_copy_far_ahead_of_all_others_stays() -> None:
    scores = np.array([9, 8.9, 1, 0], np.float32)
    assert diversified(scores, unit_rows(0, 0, 90, 180), 2, PLAIN) == [0, 1]


def test_a_near_copy_yields_less_than_an_exact_one() -> None:
    alike = redundancy(np.array([1.0, 0.95, 0.9], np.float32), PLAIN.alike)
    np.testing.assert_allclose(alike, [1, 0.75, 0.5], atol=1e-6)


@given(st.integers(2, 8), st.integers(1, 8))
def test_what_is_less_than_alike_keeps_its_order(count: int, limit: int) -> None:
    apart = unit_rows(*(40 * position for position in range(count)))
    assert diversified(falling(count), apart, limit, PLAIN) == list(range(min(count, limit)))


def test_texts_without_vectors_are_no_copies_of_each_other() -> None:
    nothing_known = np.zeros((5, 2), np.float32)
    assert diversified(falling(5), nothing_known, 5, PLAIN) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dimension", [0, 2])
def test_without_a_hit_there_is_nothing_to_choose(dimension: int) -> None:
    assert diversified(falling(0), np.zeros((0, dimension), np.float32), 5, PLAIN) == []


def test_a_single_hit_is_chosen_whatever_the_limit() -> None:
    assert diversified(falling(1), unit_rows(0), 5, PLAIN) == [0]


def test_equal_scores_keep_their_order_and_copies_come_last() -> None:
    equal = np.ones(4, np.float32)
    assert diversified(equal, unit_rows(0, 0, 90, 180), 4, PLAIN) == [0, 2, 3, 1]


def test_a_store_without_vectors_keeps_the_order_of_the_words() -> None:
    assert diversified(falling(3), np.zeros((3, 0), np.float32), 3, PLAIN) == [0, 1, 2]
