"""Relevance: probabilities that rise and fall with what they are made of, and are kept as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from byheart_store.ranking.diversity import Diversity
from byheart_store.ranking.fusion import Fusion
from byheart_store.ranking.relevance import Calibration, most_words_score
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning

Floats: TypeAlias = NDArray[np.float64]

PLAIN = Calibration()

cosines = st.lists(st.floats(-1, 1), min_size=1, max_size=60).map(np.array)
fused_scores = st.lists(st.floats(-40, 90), min_size=1, max_size=20).map(
    lambda scores: np.array(sorted(scores, reverse=True))
)
memories = st.integers(1, 100_000)


def by_vectors(found: Floats) -> float:
    return PLAIN.answerable(None, found, most=1.0, memories=len(found))


def by_words(found: Floats, most: float = 30.0) -> float:
    return PLAIN.answerable(found, None, most, memories=len(found))


class TestAnswerable:
    @given(cosines)
    def test_it_is_a_probability(self, found: Floats) -> None:
        assert 0 <= by_vectors(found) <= 1
        assert 0 <= by_words(np.abs(found) * 40) <= 1

    @given(cosines, st.floats(0, 1))
    def test_a_nearer_best_is_more_convincing(self, found: Floats, nearer: float) -> None:
        raised = found.copy()
        raised[found.argmax()] += nearer
        assert by_vectors(raised) >= by_vectors(found)

    @given(st.floats(0, 30), st.floats(0, 10), st.integers(0, 50))
    def test_a_better_match_of_words_is_more_convincing(
        self, score: float, more: float, others: int
    ) -> None:
        low, high = (np.array([best] + [0.0] * others) for best in (score, score + more))
        assert by_words(high) >= by_words(low)

    @given(st.floats(-1, 1), st.integers(10, 600), st.integers(1, 400))
    def test_with_more_to_choose_from_the_same_cosine_says_less(
        self, cosine: float, count: int, more: int
    ) -> None:
        assert by_vectors(np.full(count + more, cosine)) <= by_vectors(np.full(count, cosine))

    def test_the_vectors_decide_where_there_are_any(self) -> None:
        text, near = np.zeros(20), np.linspace(0.1, 0.7, 20)
        assert PLAIN.answerable(text, near, 30.0, 20) == by_vectors(near)

    def test_with_nothing_asked_nothing_answers(self) -> None:
        assert PLAIN.answerable(None, None, 1.0, 0) == 0

    @pytest.mark.parametrize("count", [1, 5, 40, 5_000])
    def test_a_near_memory_answers_and_a_far_one_does_not(self, count: int) -> None:
        far = np.full(count, 0.05)
        near = np.append(far[1:], 0.8)
        assert by_vectors(far) < PLAIN.threshold < by_vectors(near)


class TestHits:
    @given(fused_scores, memories)
    def test_they_are_probabilities(self, scores: Floats, number: int) -> None:
        found = PLAIN.of_hits(scores, number)
        assert len(found) == len(scores)
        assert ((found >= 0) & (found <= 1)).all()

    @given(fused_scores, memories)
    def test_relevance_falls_with_rank(self, scores: Floats, number: int) -> None:
        assert (np.diff(PLAIN.of_hits(scores, number)) <= 0).all()

    @given(st.floats(0, 30), memories)
    def test_a_hit_far_below_the_first_is_less_relevant(self, gap: float, number: int) -> None:
        near, far = np.array([50, 50 - gap]), np.array([50, 50 - gap - 5])
        assert PLAIN.of_hits(far, number)[1] <= PLAIN.of_hits(near, number)[1]

    def test_without_hits_there_is_nothing_to_say(self) -> None:
        assert len(PLAIN.of_hits(np.zeros(0), 0)) == 0


class TestMostWordsScore:
    @given(
        st.lists(st.sampled_from(["harbour", "crane", "ferry", "rope", "gull"])),
        st.integers(0, 999),
    )
    def test_more_words_may_score_more(self, words: list[str], texts: int) -> None:
        query = " ".join(words)
        assert most_words_score(f"{query} lighthouse", texts) >= most_words_score(query, texts)

    @given(st.integers(0, 100_000), st.integers(0, 100_000))
    def test_words_can_be_rarer_among_more_texts(self, texts: int, more: int) -> None:
        assert most_words_score("crane", texts + more) >= most_words_score("crane", texts) > 0

    @pytest.mark.parametrize("query", ["Crane, CRANE", "the crane is a crane", "crane!"])
    def test_a_word_counts_once_and_common_ones_do_not(self, query: str) -> None:
        assert most_words_score(query, 50) == most_words_score("crane", 50)

    @pytest.mark.parametrize("query", ["", "the of and", "???"])
    def test_a_query_without_words_is_measured_all_the_same(self, query: str) -> None:
        assert most_words_score(query, 1) > 0


numbers = st.floats(-1e6, 1e6)


def coefficients(count: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(numbers, min_size=count, max_size=count).map(tuple)


tunings = st.builds(
    Tuning,
    st.builds(Fusion, pool=st.integers(1, 9_999), **dict.fromkeys(["vector", "power"], numbers)),
    st.builds(Diversity, balance=numbers, alike=numbers),
    st.builds(
        Calibration,
        vectors=coefficients(4),
        words=coefficients(3),
        hit=coefficients(5),
        threshold=st.floats(0, 1),
    ),
)


def as_stored(tuning: Tuning) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(tuning.as_dict()))
    return values


class TestTuningAsJson:
    @given(tunings)
    def test_it_is_read_back_as_it_was_written(self, tuning: Tuning) -> None:
        assert Tuning.from_dict(as_stored(tuning)) == tuning

    @given(tunings, st.text(), st.sampled_from(["fusion", "diversity", "calibration"]))
    def test_what_a_later_version_adds_is_passed_over(
        self, tuning: Tuning, name: str, part: str
    ) -> None:
        known = {field.name for kind in (Fusion, Diversity, Calibration) for field in fields(kind)}
        values = as_stored(tuning)
        values[part] |= {} if name in known else {name: [1, 2]}
        assert Tuning.from_dict(values | {"recency": {"half_life": 30}}) == tuning

    @given(tunings, st.data())
    def test_what_an_earlier_version_lacks_has_its_default(
        self, tuning: Tuning, data: st.DataObject
    ) -> None:
        values = as_stored(tuning)
        part = data.draw(st.sampled_from(sorted(values)))
        name = data.draw(st.sampled_from(sorted(values[part])))
        del values[part][name]
        read = Tuning.from_dict(values).as_dict()
        assert read[part].pop(name) == DEFAULT_TUNING.as_dict()[part][name]
        assert json.loads(json.dumps(read)) == values

    def test_nothing_written_is_the_defaults(self) -> None:
        assert Tuning.from_dict({}) == DEFAULT_TUNING == Tuning.from_dict(as_stored(DEFAULT_TUNING))
