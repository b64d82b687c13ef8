"""Splitting: nothing of the test part is trained on, and every part is like the whole."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byheart_retrain.labels import Split, longmemeval_split, split
from byheart_retrain.labels.splitting import FEWEST_GROUPS, SAME_WORDS
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.queries.linking import linked, words

TYPES = {
    "knowledge-update": 78,
    "multi-session": 133,
    "single-session-assistant": 56,
    "single-session-preference": 30,
    "single-session-user": 70,
    "temporal-reasoning": 133,
}
NAMES = "abcdefghijklmnopqrstuvwxyz"


def question(
    number: int, *gold: str, namespace: str | None = None, kind: str = "fact"
) -> LabelledQuery:
    """A question that shares too few words with any other."""
    draw = random.Random(number)
    text = " ".join("".join(draw.choices(NAMES, k=8)) for _ in range(6))
    return LabelledQuery(f"q-{number}", text, frozenset(gold), namespace, kind)


def parts(found: Split) -> list[list[LabelledQuery]]:
    return [found.train, found.dev, found.test]


def sizes(found: Split) -> tuple[int, int, int]:
    return len(found.train), len(found.dev), len(found.test)


def ids(queries: Sequence[LabelledQuery]) -> list[str]:
    return [query.id for query in queries]


def namespaces(queries: Sequence[LabelledQuery]) -> set[str | None]:
    return {query.namespace for query in queries}


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[LabelledQuery], dict[str, str | None]]:
    """Questions of few words about few memories, so that many have something in common."""
    count = draw(st.integers(0, 25))
    memories = [f"m-{number}" for number in range(draw(st.integers(1, 40)))]
    positions = [f"n-{number}" for number in range(draw(st.integers(1, 8)))]
    vocabulary = st.lists(st.sampled_from(NAMES), min_size=1, max_size=8).map(" ".join)
    queries = [
        LabelledQuery(
            f"q-{number}",
            draw(vocabulary),
            draw(st.frozensets(st.sampled_from(memories), max_size=3)),
            draw(st.sampled_from([None, *positions])),
            draw(st.sampled_from(["fact", "time", None])),
        )
        for number in range(count)
    ]
    sessions = st.sampled_from([None, *(f"s-{number}" for number in range(10))])
    return queries, {name: draw(sessions) for name in memories}


class TestAnySplit:
    @given(labelled())
    def test_every_question_is_in_one_part(
        self, given: tuple[list[LabelledQuery], Mapping[str, str | None]]
    ) -> None:
        found = [name for part in parts(split(*given)) for name in ids(part)]
        assert sorted(found) == sorted(ids(given[0]))

    @given(labelled())
    def test_no_gold_memory_is_in_two_parts(
        self, given: tuple[list[LabelledQuery], Mapping[str, str | None]]
    ) -> None:
        golds = [{name for query in part for name in query.gold} for part in parts(split(*given))]
        assert not any(one & other for one, other in combinations(golds, 2))

    @given(labelled())
    def test_the_same_words_are_not_in_two_parts(
        self, given: tuple[list[LabelledQuery], Mapping[str, str | None]]
    ) -> None:
        asked = [[set(words(query.text)) for query in part] for part in parts(split(*given))]
        for one, other in combinations(asked, 2):
            assert all(len(a & b) < SAME_WORDS * len(a | b) for a in one for b in other)

    @given(labelled(), st.integers(0, 5), st.randoms(use_true_random=False))
    def test_the_order_of_the_questions_does_not_matter(
        self,
        given: tuple[list[LabelledQuery], Mapping[str, str | None]],
        seed: int,
        draw: random.Random,
    ) -> None:
        queries, sessions = given
        mixed = draw.sample(queries, len(queries))
        assert split(queries, sessions, seed=seed) == split(mixed, sessions, seed=seed)

    @given(st.lists(st.integers(1, 12), min_size=FEWEST_GROUPS, max_size=12), st.integers(0, 3))
    def test_whole_namespaces_stay_together(self, counts: list[int], seed: int) -> None:
        positions = [f"n-{n}" for n, count in enumerate(counts) for _ in range(count)]
        queries = [
            question(number, f"m-{number}", namespace=name) for number, name in enumerate(positions)
        ]
        found = [namespaces(part) for part in parts(split(queries, {}, seed=seed))]
        assert not any(one & other for one, other in combinations(found, 2))
        assert all(found)

    def test_seeds_choose_differently(self) -> None:
        queries = [question(number, f"m-{number}") for number in range(100)]
        assert split(queries, {}, seed=1) == split(queries, {}, seed=1) != split(queries, {})

    def test_nothing_gives_nothing(self) -> None:
        assert split([], {}) == Split([], [], [])


class TestSizes:
    @pytest.mark.parametrize(
        ("count", "dev", "test"), [(40, 6, 12), (200, 30, 60), (500, 50, 100), (2_000, 200, 200)]
    )
    def test_few_labels_go_where_they_tell_most(self, count: int, dev: int, test: int) -> None:
        queries = [question(number, f"m-{number}") for number in range(count)]
        assert sizes(split(queries, {})) == (count - dev - test, dev, test)

    def test_every_type_is_in_every_part_in_proportion(self) -> None:
        kinds = [kind for kind, count in TYPES.items() for _ in range(count)]
        queries = [question(n, f"m-{n}", kind=kind) for n, kind in enumerate(kinds)]
        found = split(queries, {})
        for part, share in ((found.dev, 0.1), (found.test, 0.2)):
            counts = Counter(query.type for query in part)
            assert all(abs(counts[kind] - share * count) <= 1 for kind, count in TYPES.items())

    @pytest.mark.parametrize("seed", range(5))
    def test_unequal_namespaces_come_near_the_sizes(self, seed: int) -> None:
        counts = [260, 242, 239, 202, 197, 196, 193, 190, 158, 105]
        positions = [f"conv-{n}" for n, count in enumerate(counts) for _ in range(count)]
        queries = [question(n, f"m-{n}", namespace=name) for n, name in enumerate(positions)]
        _, dev, test = sizes(split(queries, {}, seed=seed))
        assert 100 <= dev <= 205
        assert 100 <= test <= 205

    def test_a_test_part_of_too_few_questions_gets_another_namespace(self) -> None:
        queries = [question(n, f"m-{n}", namespace=f"n-{n % 5}") for n in range(100)]
        assert sizes(split(queries, {})) == (40, 20, 40)

    def test_no_part_is_empty_where_namespaces_are_larger_than_a_part(self) -> None:
        queries = [question(n, f"m-{n}", namespace=f"n-{n % 5}") for n in range(500)]
        assert sizes(split(queries, {})) == (300, 100, 100)

    def test_a_lump_is_trained_on(self) -> None:
        lump = [question(number, "the one") for number in range(30)]
        singles = [question(number, f"m-{number}") for number in range(30, 40)]
        train, dev, test = sizes(split([*lump, *singles], {}))
        assert train >= 30
        assert 2 <= dev < test

    def test_ten_thousand_questions_take_seconds(self) -> None:
        draw = random.Random(0)
        vocabulary = [f"word{number}" for number in range(3_000)]
        queries = [
            LabelledQuery(
                f"q-{number}",
                "What did I say about " + " ".join(draw.choices(vocabulary, k=4)),
                frozenset([f"m-{number}"]),
                "default",
            )
            for number in range(10_000)
        ]
        began = time.perf_counter()
        assert sizes(split(queries, {})) == (8_000, 1_000, 1_000)
        assert time.perf_counter() - began < 15


class TestGroups:
    def test_sessions_stay_together_where_there_are_few_namespaces(self) -> None:
        queries = [question(n, f"m-{n}") for n in range(100)]
        sessions = {f"m-{n}": f"s-{n % 20}" for n in range(100)}
        found = split(queries, sessions)
        inside = [
            {sessions[name] for query in part for name in query.gold} for part in parts(found)
        ]
        assert sum(map(len, inside)) == 20
        assert sizes(found) == (55, 15, 30)

    def test_answers_in_several_sessions_do_not_chain_them(self) -> None:
        queries = [question(n, f"m-{n}-0", f"m-{n}-1", f"m-{n}-2") for n in range(100)]
        sessions = {
            f"m-{n}-{turn}": f"s-{(n + (turn == 2)) % 20}" for n in range(100) for turn in range(3)
        }
        found = split(queries, sessions)
        most = [{sessions[f"m-{query.id[2:]}-0"] for query in part} for part in parts(found)]
        assert sum(map(len, most)) == 20
        assert sizes(found) == (55, 15, 30)

    def test_the_same_session_name_elsewhere_is_another_session(self) -> None:
        positions = ["home", "work", "boat"]
        queries = [question(n, f"m-{n}", namespace=positions[n % 3]) for n in range(90)]
        sessions: dict[str, str | None] = {f"m-{n}": f"s-{n // 3 % 2}" for n in range(90)}
        found = [
            {(query.namespace, sessions[name]) for query in part for name in query.gold}
            for part in parts(split(queries, sessions))
        ]
        assert sum(map(len, found)) == 6

    def test_namespaces_that_ask_the_same_go_together(self) -> None:
        queries = [question(n, f"m-{n}", namespace=f"n-{n % 10}") for n in range(100)]
        same = [
            LabelledQuery("same-0", "What did I eat today?", frozenset("x"), "n-0"),
            LabelledQuery("same-1", "What did I eat, today", frozenset("y"), "n-1"),
        ]
        for seed in range(10):
            where = {
                name: number
                for number, part in enumerate(parts(split([*queries, *same], {}, seed=seed)))
                for name in namespaces(part)
            }
            assert where["n-0"] == where["n-1"]

    def test_linked_names_lead_to_the_smallest(self) -> None:
        found = linked([{"c", "b"}, {"d"}, {"b", "a"}, set(), {"e", "d"}])
        assert found == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d"}


class TestLongMemEval:
    def test_it_holds_out_a_fifth_of_each_type(self) -> None:
        kinds = [kind for kind, count in TYPES.items() for _ in range(count)]
        random.Random(7).shuffle(kinds)
        queries = [question(number, kind=kind) for number, kind in enumerate(kinds)]
        held_out, rest = longmemeval_split(queries)
        assert (len(held_out), len(rest)) == (102, 398)
        counts = Counter(query.type for query in held_out)
        assert [counts[kind] for kind in TYPES] == [16, 27, 12, 6, 14, 27]
        assert sorted(ids([*held_out, *rest])) == sorted(ids(queries))

    def test_one_generator_draws_all_types_in_order(self) -> None:
        queries = [question(number, kind="ba"[number % 2]) for number in range(20)]
        draw = random.Random(42)
        expected = []
        for kind in "ab":
            own = [query for query in queries if query.type == kind]
            draw.shuffle(own)
            expected += own[:2]
        assert sorted(ids(longmemeval_split(queries)[0])) == sorted(ids(expected))
