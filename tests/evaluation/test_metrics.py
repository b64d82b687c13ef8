"""The metrics against their definitions, and what may be said of their means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from byheart_retrain.evaluation.metrics import (
    METRICS,
    auroc,
    calibration_curve,
    expected_calibration_error,
    false_positive_rate,
    hit,
    intervals,
    measured,
    ndcg,
    recall,
    reciprocal_rank,
)

from ..conftest import examples

if TYPE_CHECKING:
    from byheart_retrain.evaluation.metrics import Floats

quickly = examples(60)
ids = st.sampled_from([f"m{number}" for number in range(24)])
rankings = st.lists(ids, unique=True, max_size=20)
golds = st.frozensets(ids, min_size=1, max_size=14)
depths = st.integers(1, 15)
scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30).map(np.array)
columns = st.lists(st.floats(0, 1), min_size=1, max_size=40).map(lambda own: np.array(own)[:, None])


def width(values: Floats) -> float:
    found = intervals(values)[0]
    return found.high - found.low


class TestOneRanking:
    @quickly
    @given(rankings, golds)
    def test_every_metric_lies_between_0_and_1(
        self, ranking: list[str], gold: frozenset[str]
    ) -> None:
        assert all(0 <= metric(ranking, gold) <= 1 for metric in METRICS.values())

    @quickly
    @given(rankings, golds, depths)
    def test_a_perfect_ranking_has_ndcg_1(
        self, rest: list[str], gold: frozenset[str], depth: int
    ) -> None:
        perfect = [*sorted(gold), *(item for item in rest if item not in gold)]
        assert ndcg(perfect, gold, depth) == pytest.approx(1)
        assert reciprocal_rank(perfect, gold) == hit(perfect, gold, 5) == 1
        assert recall(perfect, gold, len(gold)) == 1

    @quickly
    @given(rankings, golds)
    def test_a_ranking_without_gold_scores_0(
        self, ranking: list[str], gold: frozenset[str]
    ) -> None:
        ranking = [item for item in ranking if item not in gold]
        assert all(metric(ranking, gold) == 0 for metric in METRICS.values())

    @quickly
    @given(rankings, golds)
    def test_names_do_not_matter(self, ranking: list[str], gold: frozenset[str]) -> None:
        renamed = [f"other {item}" for item in ranking]
        other = {f"other {item}" for item in gold}
        for metric in METRICS.values():
            assert metric(renamed, other) == metric(ranking, gold)

    @quickly
    @given(rankings, golds, depths)
    def test_what_stands_deeper_does_not_count(
        self, ranking: list[str], gold: frozenset[str], depth: int
    ) -> None:
        for metric in (ndcg, recall, hit):
            assert metric(ranking, gold, depth) == metric(ranking[:depth], gold, depth)

    @quickly
    @given(rankings, golds, st.data())
    def test_lifting_a_gold_item_never_hurts(
        self, ranking: list[str], gold: frozenset[str], data: st.DataObject
    ) -> None:
        positions = [position for position, item in enumerate(ranking) if position and item in gold]
        assume(positions)
        position = data.draw(st.sampled_from(positions))
        lifted = list(ranking)
        lifted[position - 1], lifted[position] = lifted[position], lifted[position - 1]
        for metric in METRICS.values():
            assert metric(lifted, gold) >= metric(ranking, gold) - 1e-12

    @quickly
    @given(rankings, golds, depths)
    def test_recall_and_hits_grow_with_the_depth(
        self, ranking: list[str], gold: frozenset[str], depth: int
    ) -> None:
        assert recall(ranking, gold, depth) <= recall(ranking, gold, depth + 1)
        assert hit(ranking, gold, depth) <= hit(ranking, gold, depth + 1)

    def test_ndcg_by_hand(self) -> None:
        found = 1 / math.log2(3) + 1 / math.log2(5)
        ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
        assert ndcg(["x", "a", "y", "b"], {"a", "b", "c"}, 10) == pytest.approx(found / ideal)

    def test_ndcgs_ideal_is_of_all_gold_items_and_no_deeper_than_the_ranking_is_read(self) -> None:
        assert ndcg(["a"], {"a", "b"}, 10) == pytest.approx(1 / (1 + 1 / math.log2(3)))
        assert ndcg(["a", "x"], {"a", "b", "c"}, 1) == 1

    def test_recall_hits_and_reciprocal_rank_by_hand(self) -> None:
        ranking, gold = ["x", "a", "y", "b"], {"a", "b", "c", "d"}
        assert [recall(ranking, gold, depth) for depth in (1, 3, 5)] == [0, 0.25, 0.5]
        assert [hit(ranking, gold, depth) for depth in (1, 2)] == [0, 1]
        assert reciprocal_rank(ranking, gold) == 0.5
        assert reciprocal_rank(["x"], gold) == 0

    def test_all_metrics_are_measured_a_column_each(self) -> None:
        values = measured([["a"], ["x", "a"]], [{"a"}, {"a"}])
        assert values.shape == (2, len(METRICS))
        assert values[:, list(METRICS).index("mrr")].tolist() == [1, 0.5]

    def test_each_ranking_needs_its_gold(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            measured([["a"], ["b"]], [{"a"}])


class TestIntervals:
    @examples(20)
    @given(columns)
    def test_an_interval_contains_the_mean(self, values: Floats) -> None:
        found = intervals(values)[0]
        assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
        assert found.mean == pytest.approx(values.mean())

    @examples(20)
    @given(columns)
    def test_an_interval_lies_within_the_values(self, values: Floats) -> None:
        found = intervals(values)[0]
        assert values.min() - 1e-9 <= found.low <= found.high <= values.max() + 1e-9

    def test_a_coin_gives_the_textbook_interval(self) -> None:
        coin = np.tile([0.0, 1.0], 200)[:, None]
        assert width(coin) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.05)

    def test_four_times_the_queries_halve_the_interval(self) -> None:
        values = np.random.default_rng(1).random((100, 1))
        assert width(np.tile(values, (4, 1))) == pytest.approx(width(values) / 2, rel=0.05)

    def test_equal_values_leave_no_doubt(self) -> None:
        assert width(np.full((30, 1), 0.25)) == pytest.approx(0)

    def test_every_column_has_an_interval_of_its_own(self) -> None:
        first, second = intervals(np.array([[0.0, 1.0], [0.0, 1.0]]))
        assert (first.mean, second.mean) == (0, 1)

    def test_the_same_values_give_the_same_interval(self) -> None:
        values = np.random.default_rng(2).random((40, 1))
        assert intervals(values) == intervals(values)

    def test_no_values_have_no_mean(self) -> None:
        found = intervals(np.empty((0, 2)))
        assert len(found) == 2
        assert math.isnan(found[0].mean)

    def test_pairing_sees_a_small_gain_on_hard_and_easy_queries(self) -> None:
        draw = np.random.default_rng(3)
        ours = draw.random((200, 1)) * 0.9
        theirs = ours - 0.02 - draw.random((200, 1)) * 0.01
        assert intervals(ours)[0].low < intervals(theirs)[0].high
        assert intervals(ours - theirs)[0].low > 0

    def test_an_interval_is_three_numbers_by_name(self) -> None:
        found = intervals(np.ones((3, 1)))[0].as_dict()
        assert found == pytest.approx({"mean": 1, "low": 1, "high": 1})


class TestAuroc:
    @quickly
    @given(scores, scores)
    def test_it_is_the_share_of_pairs_in_order(self, positives: Floats, negatives: Floats) -> None:
        wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
        assert auroc(positives, negatives) == pytest.approx(np.mean(wins))

    @quickly
    @given(scores, scores)
    def test_only_the_order_matters(self, positives: Floats, negatives: Floats) -> None:
        bent = auroc(np.exp(positives), np.exp(negatives))
        assert bent == pytest.approx(auroc(positives, negatives))
        assert auroc(negatives, positives) == pytest.approx(1 - bent)

    def test_ties_count_half(self) -> None:
        assert auroc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5

    def test_without_negatives_there_is_none(self) -> None:
        assert math.isnan(auroc(np.ones(2), np.empty(0)))
        assert math.isnan(false_positive_rate(np.empty(0), np.ones(2)))


class TestFalsePositiveRate:
    positives = np.arange(1.0, 21.0)

    def test_19_of_20_positives_are_kept_at_95_percent(self) -> None:
        assert false_positive_rate(self.positives, np.array([0.0, 1.0, 1.9, 2.0])) == 0.25

    def test_keeping_all_admits_what_reaches_the_weakest(self) -> None:
        assert false_positive_rate(self.positives, np.array([0.5, 1.0]), recall=1) == 0.5

    @quickly
    @given(scores, scores)
    def test_asking_for_less_recall_admits_no_more(self, yes: Floats, no: Floats) -> None:
        assert false_positive_rate(yes, no, 0.5) <= false_positive_rate(yes, no, 0.95)


class TestCalibration:
    def test_the_gaps_of_the_bins_are_weighted_by_their_counts(self) -> None:
        said = np.array([0.85, 0.85, 0.85, 0.25])
        seen = np.array([1.0, 1.0, 0.0, 0.0])
        expected = 3 / 4 * abs(0.85 - 2 / 3) + 1 / 4 * 0.25
        assert expected_calibration_error(said, seen) == pytest.approx(expected)

    def test_honest_probabilities_have_no_error(self) -> None:
        said, seen = np.array([0.5, 0.5, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
        assert expected_calibration_error(said, seen) == 0

    def test_sure_and_wrong_is_the_worst(self) -> None:
        assert expected_calibration_error(np.ones(3), np.zeros(3)) == 1

    def test_without_hits_there_is_none(self) -> None:
        assert math.isnan(expected_calibration_error(np.empty(0), np.empty(0)))

    @quickly
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
    def test_every_probability_stands_in_one_bin_of_the_curve(self, said: list[float]) -> None:
        curve = calibration_curve(np.array(said), np.ones(len(said)))
        assert sum(count for *_, count in curve) == len(said)
        assert [mean for mean, *_ in curve] == sorted(mean for mean, *_ in curve)
