"""Fusion: what must hold for any scores of any memories."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from byheart_store.ranking.fusion import (
    HALF_LIFE,
    NEIGHBOURS,
    Fusion,
    best_of_passages,
    blended,
    expected_maximum,
    leg,
    luck_of_length,
    sharpened,
    standard_scores,
    with_recency,
    with_session_evidence,
)

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

PLAIN = Fusion()


def floats(values: object) -> Floats:
    return np.array(values, np.float32)


def begins(counts: list[int]) -> Integers:
    return np.concatenate([[0], np.cumsum(np.array(counts, np.int64))])


def in_order_of(scores: Floats, others: Floats) -> bool:
    """Whether no pair stands the other way round in `others`."""
    order = np.argsort(scores, kind="stable")
    return bool((np.diff(others[order]) >= 0).all())


# Steps of a quarter are exact in float32, so that what is equal or not is no matter of rounding.
score = st.integers(-200, 200).map(lambda number: number / 4)
some_scores = st.lists(score, max_size=40).map(floats)
counts_of_passages = st.lists(st.integers(1, 6), min_size=1, max_size=12)
pools = st.integers(1, 50)
powers = st.floats(0.5, 4)


@st.composite
def passages(draw: st.DrawFn) -> tuple[Floats, Integers]:
    """Scores of passages, and where each memory's begin."""
    counts = draw(counts_of_passages)
    rows = draw(st.lists(score, min_size=sum(counts), max_size=sum(counts)))
    return floats(rows), begins(counts)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Floats, Integers]:
    """Standard scores of memories in sessions, as a snapshot sorts them; -1 is none."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    numbers = [number if draw(st.booleans()) else -1 for number in range(len(lengths))]
    sessions = np.repeat(numbers, lengths).astype(np.int64)
    scores = draw(st.lists(score, min_size=len(sessions), max_size=len(sessions)))
    return floats(scores) / np.float32(10), sessions


class TestStandardScores:
    @given(some_scores)
    def test_they_keep_the_order(self, scores: Floats) -> None:
        assert in_order_of(scores, standard_scores(scores, pool=200))

    @given(some_scores, pools)
    def test_they_keep_the_order_beyond_the_pool(self, scores: Floats, pool: int) -> None:
        assert in_order_of(scores, standard_scores(scores, pool))

    @given(some_scores, score, st.sampled_from([0.25, 2, 16]), pools)
    def test_neither_shift_nor_scale_changes_them(
        self, scores: Floats, shift: float, scale: float, pool: int
    ) -> None:
        moved = standard_scores(scores * np.float32(scale) + np.float32(shift), pool)
        np.testing.assert_allclose(moved, standard_scores(scores, pool), atol=1e-3)

    @given(st.floats(-30, 30, width=32), st.integers(1, 300), pools)
    def test_equal_scores_are_zeros(self, value: float, count: int, pool: int) -> None:
        assert not standard_scores(np.full(count, value, np.float32), pool).any()

    def test_what_differs_by_rounding_is_equal(self) -> None:
        cosines = np.full(40, 0.61, np.float32)
        cosines[::3] = np.nextafter(cosines[0], np.float32(1))
        assert not standard_scores(cosines, pool=200).any()

    @given(some_scores, st.integers(1, 30))
    def test_what_is_below_the_pool_does_not_count(self, best: Floats, below: int) -> None:
        all_scores = np.concatenate([best, np.full(below, -1_000, np.float32)])
        measured = standard_scores(all_scores, pool=len(best)) if len(best) else best
        np.testing.assert_array_equal(measured[: len(best)], standard_scores(best, 200))

    @given(some_scores.filter(lambda scores: len(np.unique(scores)) > 1))
    def test_their_mean_is_zero_and_their_deviation_one(self, scores: Floats) -> None:
        standard = standard_scores(scores, pool=200)
        assert standard.mean() == pytest.approx(0, abs=1e-4)
        assert standard.std() == pytest.approx(1, abs=1e-4)


class TestSharpening:
    @given(some_scores, powers)
    def test_it_keeps_order_and_sign(self, scores: Floats, power: float) -> None:
        sharp = sharpened(scores, power)
        assert in_order_of(scores, sharp)
        np.testing.assert_array_equal(np.sign(sharp), np.sign(scores))

    @given(some_scores)
    def test_a_power_of_one_changes_nothing(self, scores: Floats) -> None:
        np.testing.assert_array_equal(sharpened(scores, 1.0), scores)


class TestLength:
    @given(passages())
    def test_the_best_passage_counts(self, found: tuple[Floats, Integers]) -> None:
        rows, first = found
        naive = [max(rows[low:high]) for low, high in pairwise(first)]
        assert best_of_passages(rows, first).tolist() == naive

    @given(st.lists(score, min_size=1, max_size=12), st.data())
    def test_copies_of_one_passage_have_no_luck(
        self, scores: list[float], data: st.DataObject
    ) -> None:
        size = len(scores)
        counts = data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))
        luck = luck_of_length(np.repeat(floats(scores), counts), begins(counts))
        np.testing.assert_allclose(luck, 0, atol=1e-5)

    @given(passages(), st.integers(2, 30))
    def test_saying_the_same_again_gains_nothing(
        self, found: tuple[Floats, Integers], copies: int
    ) -> None:
        rows, first = found
        long = np.concatenate([rows, np.full(copies, 12.5, np.float32)])
        gained = leg(long, np.append(first, len(long)), PLAIN)
        short = leg(np.append(rows, floats(12.5)), np.append(first, len(rows) + 1), PLAIN)
        assert (gained[:-1] < gained[-1]).sum() <= (short[:-1] < short[-1]).sum()

    @given(passages())
    def test_no_memory_gains_by_luck_and_single_passages_pay_none(
        self, found: tuple[Floats, Integers]
    ) -> None:
        rows, first = found
        luck = luck_of_length(rows, first)
        assert (luck >= 0).all()
        assert not luck[np.diff(first) == 1].any()

    def test_pure_chance_lifts_long_memories_and_short_ones_alike(self) -> None:
        draw = np.random.default_rng(7)
        counts = [40] * 300 + [1] * 3_000
        rows, first = draw.normal(size=sum(counts)).astype(np.float32), begins(counts)
        fair = best_of_passages(rows, first) - luck_of_length(rows, first)
        assert best_of_passages(rows, first)[:300].mean() > 2
        assert fair[:300].mean() == pytest.approx(fair[300:].mean(), abs=0.1)

    @given(passages())
    def test_length_may_be_left_unpaid(self, found: tuple[Floats, Integers]) -> None:
        rows, first = found
        unpaid = leg(rows, first, replace(PLAIN, length=0))
        expected = standard_scores(best_of_passages(rows, first), PLAIN.pool)
        np.testing.assert_array_equal(unpaid, expected)


class TestExpectedMaximum:
    @pytest.mark.parametrize("count", [2, 3, 5, 10, 40, 150])
    def test_it_agrees_with_simulation(self, count: int) -> None:
        draws = np.random.default_rng(3).normal(size=(40_000, count)).max(axis=1)
        assert expected_maximum(count) == pytest.approx(draws.mean(), rel=0.02)

    def test_one_alone_expects_no_luck_and_more_expect_more(self) -> None:
        expected = [expected_maximum(count) for count in range(1, 500)]
        assert expected[0] == 0
        assert all(fewer < more for fewer, more in pairwise(expected))


class TestBlending:
    @given(some_scores, powers)
    def test_without_vectors_the_words_speak_alone(self, text: Floats, power: float) -> None:
        fusion = replace(PLAIN, power=power)
        np.testing.assert_array_equal(blended(text, None, fusion), sharpened(text, power))

    @given(some_scores)
    def test_a_leg_without_weight_says_nothing(self, scores: Floats) -> None:
        by_text = blended(scores, -scores, replace(PLAIN, vector=0))
        by_vector = blended(-scores, scores, replace(PLAIN, vector=1))
        np.testing.assert_array_equal(by_text, sharpened(scores, PLAIN.power))
        np.testing.assert_array_equal(by_vector, sharpened(scores, PLAIN.power))

    @given(some_scores, st.floats(0, 1), powers)
    def test_legs_that_agree_keep_their_order(
        self, scores: Floats, weight: float, power: float
    ) -> None:
        fusion = replace(PLAIN, vector=weight, power=power)
        fused = np.round(blended(scores, scores, fusion), 3)
        assert in_order_of(scores, fused)

    def test_the_leg_whose_best_stands_out_wins(self) -> None:
        text, vector = floats([2.0, 1.9, -1.0]), floats([-1.0, 4.0, 0.0])
        assert blended(text, vector, replace(PLAIN, vector=0.5)).argmax() == 1


def evidenced(scores: Floats, sessions: Integers, fusion: Fusion) -> Floats:
    """With what the session says, where every turn of it is among the memories."""
    return with_session_evidence(scores, sessions, np.arange(len(scores)), fusion)


class TestSessionEvidence:
    @given(turns(), st.data())
    def test_turns_that_are_left_out_keep_the_others_apart(
        self, found: tuple[Floats, Integers], data: st.DataObject
    ) -> None:
        scores, sessions = found
        kept = np.array(
            data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))), bool
        )
        silent, fusion = np.where(kept, scores, 0).astype(np.float32), replace(PLAIN, session=0)
        some = with_session_evidence(scores[kept], sessions[kept], np.flatnonzero(kept), fusion)
        np.testing.assert_allclose(some, evidenced(silent, sessions, fusion)[kept], atol=1e-5)

    def test_turns_within_three_of_a_find_gain_less_with_distance(self) -> None:
        scores, fusion = np.zeros(12, np.float32), replace(PLAIN, session=0)
        scores[5] = 4
        gain = evidenced(scores, np.zeros(12, np.int64), fusion) - scores
        shares = dict(NEIGHBOURS)
        expected = [PLAIN.window * 4 * shares.get(abs(position - 5), 0) for position in range(12)]
        np.testing.assert_allclose(gain, expected, atol=1e-6)
        assert np.flatnonzero(gain).tolist() == [2, 3, 4, 6, 7, 8]

    @given(turns(), st.data())
    def test_nothing_crosses_from_session_to_session(
        self, found: tuple[Floats, Integers], data: st.DataObject
    ) -> None:
        scores, sessions = found
        position = data.draw(st.integers(0, len(scores) - 1))
        raised = scores.copy()
        raised[position] += 5
        with_it = evidenced(raised, sessions, PLAIN)
        changed = np.flatnonzero(with_it != evidenced(scores, sessions, PLAIN))
        alone = sessions[position] == -1
        assert all(
            other == position if alone else sessions[other] == sessions[position]
            for other in changed
        )

    @given(turns())
    def test_a_memory_without_session_is_a_session_of_its_own(
        self, found: tuple[Floats, Integers]
    ) -> None:
        scores, sessions = found
        own = np.where(sessions == -1, np.arange(100, 100 + len(sessions)), sessions)
        np.testing.assert_array_equal(
            evidenced(scores, sessions, PLAIN),
            evidenced(scores, own, PLAIN),
        )

    @given(turns())
    def test_the_best_of_a_session_stays_its_best(self, found: tuple[Floats, Integers]) -> None:
        scores, sessions = found
        gained = evidenced(scores, sessions, replace(PLAIN, window=0))
        for number in set(sessions[sessions >= 0]):
            inside = sessions == number
            assert in_order_of(scores[inside], gained[inside])

    @given(turns())
    def test_weights_of_zero_change_nothing(self, found: tuple[Floats, Integers]) -> None:
        scores, sessions = found
        same = evidenced(scores, sessions, replace(PLAIN, session=0, window=0))
        np.testing.assert_array_equal(same, scores)

    @given(turns())
    def test_the_scores_given_are_left_as_they_are(self, found: tuple[Floats, Integers]) -> None:
        scores, sessions = found
        before = scores.copy()
        evidenced(scores, sessions, PLAIN)
        np.testing.assert_array_equal(scores, before)


ages_in_days = st.lists(st.one_of(st.floats(-10, 5_000, width=32), st.just(np.nan)), max_size=20)


class TestRecency:
    @given(ages_in_days.map(floats))
    def test_it_is_off_unless_asked_for(self, ages: Floats) -> None:
        scores = np.arange(len(ages), dtype=np.float32)
        np.testing.assert_array_equal(with_recency(scores, ages, PLAIN), scores)

    @given(ages_in_days.map(floats))
    def test_among_equals_the_later_stands_first_and_the_undated_last(self, ages: Floats) -> None:
        gained = with_recency(np.zeros_like(ages), ages, replace(PLAIN, recency=2.0))
        assert in_order_of(-np.nan_to_num(ages, nan=np.inf), gained)
        assert not gained[np.isnan(ages)].any()

    def test_a_gain_halves_with_every_half_life(self) -> None:
        ages = floats([0, HALF_LIFE, 2 * HALF_LIFE, -5])
        gained = with_recency(np.zeros(4, np.float32), ages, replace(PLAIN, recency=2.0))
        np.testing.assert_allclose(gained, [2, 1, 0.5, 2])


@given(passages(), st.data(), st.integers(1, 20), powers)
def test_no_score_is_ever_without_a_value(
    found: tuple[Floats, Integers], data: st.DataObject, pool: int, power: float
) -> None:
    rows, first = found
    count = len(first) - 1
    numbers = data.draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    fusion = replace(PLAIN, pool=pool, power=power)
    text, vector = leg(np.abs(rows), first, fusion), leg(floats(rows / 100), first, fusion)
    sessions = np.sort(np.array(numbers, np.int64))
    fused = evidenced(blended(text, vector, fusion), sessions, fusion)
    assert np.isfinite(fused).all()


def test_nothing_to_rank_gives_nothing() -> None:
    none, first = floats([]), begins([])
    text = leg(none, first, PLAIN)
    assert len(evidenced(blended(text, text, PLAIN), begins([])[:0], PLAIN)) == 0
