"""The gate: what is promoted, what is not, and what people are told about it."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byheart_retrain.evaluation import GuardResult, Verdict, decide, too_few
from byheart_retrain.evaluation.guard import guarded

from ..conftest import examples

if TYPE_CHECKING:
    from byheart_retrain.evaluation.guard import Values

often = examples(20)
scores = st.lists(st.floats(0, 1), min_size=30, max_size=80)
pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=30, max_size=80)


def verdict(before: Values, after: Values, **options: Any) -> Verdict:
    """Judge NDCG@10; R@1 is the same for both."""
    same = [0.5] * len(before)
    return decide(
        {"ndcg@10": before, "recall@1": same}, {"ndcg@10": after, "recall@1": same}, **options
    )


def losing(by: float) -> GuardResult:
    return guarded("known items", [0.9] * 40, [0.9 - by] * 40)


class TestPromotion:
    @often
    @given(scores, st.floats(0, 0.5))
    def test_equal_scores_are_never_promoted(self, same: list[float], tolerance: float) -> None:
        found = verdict(same, same, tolerance=tolerance)
        assert not found.passed
        assert "does not gain anything" in found.reason

    @often
    @given(scores, st.floats(0.001, 0.5))
    def test_a_gain_on_every_query_is_promoted(self, before: list[float], gain: float) -> None:
        found = verdict(before, [score + gain for score in before])
        assert found.passed
        assert found.gain.mean == pytest.approx(gain)

    @often
    @given(scores, st.floats(0.001, 0.5))
    def test_a_loss_on_every_query_never_is(self, before: list[float], loss: float) -> None:
        assert not verdict(before, [score - loss for score in before], tolerance=1.0).passed

    @pytest.mark.slow
    def test_chance_is_hardly_ever_promoted(self) -> None:
        """A two-sided 95% interval lets 2.5% through, and a little more where queries are few."""
        draw = np.random.default_rng(7)
        trials = 400
        promoted = 0
        for _ in range(trials):
            before = draw.uniform(0, 1, 60)
            promoted += verdict(before, before + draw.normal(0, 0.2, 60)).passed
        assert promoted / trials < 0.05

    @often
    @given(pairs, st.randoms(use_true_random=False))
    def test_the_order_of_the_queries_does_not_matter(
        self, both: list[tuple[float, float]], draw: random.Random
    ) -> None:
        shuffled = draw.sample(both, len(both))
        first, second = (verdict(*zip(*own, strict=True)) for own in (both, shuffled))
        assert first == second

    @often
    @given(scores, st.floats(0.03, 0.5))
    def test_a_failing_guard_always_refuses(self, before: list[float], loss: float) -> None:
        after = [score + 0.3 for score in before]
        assert verdict(before, after, guards=[losing(0.0)]).passed
        refused = verdict(before, after, guards=[losing(0.0), losing(loss)])
        assert not refused.passed
        assert f"known items lost {loss:.4f}" in refused.reason

    def test_the_least_gain_asked_for_has_to_be_reached(self) -> None:
        before, after = [0.5] * 40, [0.52] * 40
        assert verdict(before, after, min_gain=0.02).passed
        refused = verdict(before, after, min_gain=0.03)
        assert not refused.passed
        assert "less than the 0.030 asked for" in refused.reason

    def test_a_tolerance_admits_a_gain_that_may_be_chance(self) -> None:
        before, after = [0.5] * 40, [0.5] * 30 + [0.4] * 4 + [0.7] * 6
        refused = verdict(before, after)
        assert refused.gain.mean > 0 > refused.gain.low
        assert not refused.passed
        assert "may be chance" in refused.reason
        assert verdict(before, after, tolerance=0.05).passed

    def test_recall_at_1_is_reported_and_does_not_decide(self) -> None:
        found = decide(
            {"ndcg@10": [0.4] * 40, "recall@1": [1.0] * 40},
            {"ndcg@10": [0.6] * 40, "recall@1": [0.0] * 40},
        )
        assert found.passed
        assert (found.gain_at_1.mean, found.before["recall@1"], found.after["recall@1"]) == (
            -1.0,
            1.0,
            0.0,
        )


class TestFewQueries:
    def test_too_few_are_not_judged_and_the_number_that_lacks_is_named(self) -> None:
        found = verdict([0.1] * 12, [0.9] * 12)
        assert not found.passed
        assert found.reason == (
            "No verdict: 12 labelled test queries are too few to judge by; 18 more are needed "
            "there, which takes about 100 labelled queries in all."
        )

    def test_it_can_be_known_before_anything_is_trained(self) -> None:
        assert too_few(30) is None
        assert "1 more" in str(too_few(29))

    def test_a_larger_test_share_needs_fewer_labels(self) -> None:
        assert "about 60 labelled" in verdict([0.1], [0.9], test_share=0.5).reason

    def test_none_at_all_is_a_refusal_too(self) -> None:
        found = verdict([], [])
        assert not found.passed
        assert found.queries == 0
        assert "nan" not in found.reason
        assert found.as_dict()["gain"]["ndcg@10"]["mean"] is None


class TestMistakes:
    def test_scores_of_different_queries_are_refused(self) -> None:
        with pytest.raises(ValueError, match="40 scores before and 39 after"):
            verdict([0.5] * 40, [0.5] * 39)

    def test_a_score_that_is_no_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no number"):
            verdict([0.5] * 40, [0.5] * 39 + [math.nan])

    def test_a_metric_that_is_missing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="recall@1 is missing"):
            decide({"ndcg@10": [0.5]}, {"ndcg@10": [0.5]})

    def test_metrics_of_different_queries_are_refused(self) -> None:
        one = {"ndcg@10": [0.5] * 40, "recall@1": [0.5] * 30}
        with pytest.raises(ValueError, match="ndcg@10 has 40 queries, recall@1 30"):
            decide(one, one)


class TestReason:
    def test_it_is_one_line_with_the_figures(self) -> None:
        found = verdict([0.5] * 40, [0.6] * 40)
        assert found.reason == (
            "Passed: NDCG@10 changes by +0.100 (+0.100 to +0.100) over 40 test queries, "
            "and no guard objects."
        )

    def test_the_verdict_can_be_written_as_json(self) -> None:
        found = verdict([0.5] * 40, [0.6] * 40, guards=[losing(0.1)]).as_dict()
        assert found["promoted"] is False
        assert found["guards"][0]["holds"] is False
        assert found["gain"]["ndcg@10"]["low"] == pytest.approx(0.1)
