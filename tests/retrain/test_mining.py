"""Mining: negatives that the recall ranks high, and no answer among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from byheart_retrain.mining import MinedExample, mine, rank
from byheart_retrain.mining.hard_negatives import MOST_ABOVE
from byheart_retrain.queries import LabelledQuery
from byheart_store import MemoryStore, ModelUnavailable, NewMemory
from byheart_store.models.passages import split_passages

from ..conftest import Filled

GOLD = "The sourdough starter lives in the blue jar next to the window."
NOTES = {
    "gold": GOLD,
    "copy": "the sourdough starter lives in the blue jar, next to the window!",
    "near": "The sourdough starter lives in a blue jar next to the window.",
    "rye": "Feed the sourdough starter rye flour every second evening.",
    "crumb": "A sourdough loaf has an open crumb if the starter is lively.",
    "glass": "The blue glass by the window was a present from Ines.",
    "pickles": "Pickles are kept in the green jar behind the flour.",
    "curtain": "The curtain of the kitchen window is blue as well.",
    "oven": "The new oven is hotter at the back than the dial admits.",
    "cake": "Grandmother's plum cake needs forty minutes.",
}
ELSEWHERE = {
    "mast": "Her mast is eleven metres tall and made of spruce.",
    "berth": "Berth seventeen costs ninety crowns a month in summer.",
    "jib": "Old Halvard the sailmaker wants the jib back by Thursday.",
    "pump": "The bilge pump fails whenever the battery is low.",
}
QUERY = LabelledQuery("q", "Where is the sourdough starter kept?", frozenset(["gold"]), "kitchen")


@pytest.fixture
async def store(home: Path, filled: Filled) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(await filled(note, home)) as opened:
        yield opened


async def note(home: Path) -> None:
    """Remember all notes in the namespaces of theirs."""
    async with await MemoryStore.open(home) as store:
        for namespace, notes in (("kitchen", NOTES), ("boat", ELSEWHERE)):
            await store.remember_many(
                [NewMemory(id=name, text=text, namespace=namespace) for name, text in notes.items()]
            )


def negatives(examples: Sequence[MinedExample]) -> set[str]:
    return {name for example in examples for name in example.negatives}


class TestNegatives:
    async def test_they_are_what_ranks_high_and_does_not_answer(self, store: MemoryStore) -> None:
        mined = await mine(store, [QUERY], negatives=3)
        (example,) = mined.examples
        assert (example.query, example.positive) == (QUERY, "gold")
        assert len(example.negatives) == len(set(example.negatives)) == 3
        assert set(example.negatives) <= NOTES.keys() - {"gold"}

    async def test_the_texts_are_what_the_encoder_reads(self, store: MemoryStore) -> None:
        await store.remember(
            NewMemory(id="said", text="The starter is mine.", namespace="kitchen", speaker="Ines")
        )
        query = replace(QUERY, gold=frozenset(["said"]))
        (example,) = (await mine(store, [query])).examples
        assert example.texts[0] == "Ines: The starter is mine."
        assert example.texts[1:] == tuple(NOTES[name] for name in example.negatives)

    async def test_a_copy_of_the_answer_is_none(self, store: MemoryStore) -> None:
        mined = await mine(store, [QUERY], negatives=20)
        assert not negatives(mined.examples) & {"copy", "near"}
        assert mined.stats.copies == 2

    async def test_a_copy_judged_useless_is_none_but_a_likeness_may_be(
        self, store: MemoryStore
    ) -> None:
        query = replace(QUERY, negatives=frozenset(["copy", "near"]))
        (example,) = (await mine(store, [query])).examples
        assert example.negatives[0] == "near"
        assert "copy" not in example.negatives

    async def test_another_answer_is_none(self, store: MemoryStore) -> None:
        query = replace(QUERY, gold=frozenset(["gold", "rye", "crumb"]))
        mined = await mine(store, [query], negatives=20)
        assert sorted(example.positive for example in mined.examples) == ["crumb", "gold", "rye"]
        assert not negatives(mined.examples) & query.gold
        assert mined.stats.positives == 3

    async def test_few_of_what_ranks_above_the_answer_are_taken(self, store: MemoryStore) -> None:
        query = replace(QUERY, gold=frozenset(["oven"]))
        (asked,) = await rank(store, [query], depth=20)
        position = asked.ids.index("oven")
        assert position > MOST_ABOVE + 1
        mined = await mine(store, [query], negatives=20, depth=20)
        taken = negatives(mined.examples)
        assert taken.intersection(asked.ids[:position]) == set(
            asked.ids[position - MOST_ABOVE : position]
        )
        assert mined.stats.above == position - MOST_ABOVE

    async def test_labelled_ones_come_first(self, store: MemoryStore) -> None:
        query = replace(QUERY, negatives=frozenset(["cake", "oven"]))
        mined = await mine(store, [query], negatives=3)
        (example,) = mined.examples
        assert set(example.negatives[:2]) == {"cake", "oven"}
        assert len(example.negatives) == 3
        assert mined.stats.labelled == 2

    async def test_a_namespace_with_too_few_is_filled_from_others(self, store: MemoryStore) -> None:
        await store.remember(NewMemory(id="alone", text="Tea is at five.", namespace="diary"))
        query = LabelledQuery("q", "When is tea?", frozenset(["alone"]), "diary")
        (example,) = (await mine(store, [query])).examples
        assert len(example.negatives) == 4
        assert "alone" not in example.negatives
        assert set(example.negatives) <= NOTES.keys() | ELSEWHERE.keys()

    async def test_memories_at_random_fill_up_what_is_found(self, store: MemoryStore) -> None:
        (example,) = (await mine(store, [QUERY], negatives=4, depth=3)).examples
        assert len(example.negatives) == 4
        assert set(example.negatives) <= NOTES.keys()

    async def test_a_store_of_one_memory_has_none(self, home: Path) -> None:
        async with await MemoryStore.open(home) as store:
            await store.remember(NewMemory(id="gold", text=GOLD, namespace="kitchen"))
            mined = await mine(store, [QUERY])
        assert [example.negatives for example in mined.examples] == [()]
        assert (mined.stats.mean_negatives, mined.stats.without_negatives) == (0, 1)

    async def test_a_query_whose_answers_are_gone_gives_no_example(
        self, store: MemoryStore
    ) -> None:
        mined = await mine(store, [replace(QUERY, gold=frozenset(["gone"]))])
        assert (mined.examples, mined.stats.examples) == ([], 0)

    async def test_the_higher_ranked_are_the_likelier(self, store: MemoryStore) -> None:
        queries = [replace(QUERY, id=f"q-{number}") for number in range(40)]
        mined = await mine(store, queries, negatives=1)
        (asked,) = await rank(store, [QUERY])
        order = [name for name in asked.ids if name not in ("gold", "copy", "near")]
        taken = [order.index(example.negatives[0]) for example in mined.examples]
        assert np.mean(taken) < (len(order) - 1) / 2 - 0.5
        assert len(set(taken)) > 2

    async def test_they_are_the_same_every_time(self, store: MemoryStore) -> None:
        queries = [replace(QUERY, id=f"q-{number}") for number in range(10)]
        once, again = [await mine(store, queries, seed=1) for _ in range(2)]
        other = await mine(store, queries, seed=2)
        assert once == again
        assert once.examples != other.examples

    async def test_other_queries_change_nothing(self, store: MemoryStore) -> None:
        other = LabelledQuery("p", "What is the mast of?", frozenset(["mast"]), "boat")
        both = await mine(store, [other, QUERY])
        assert both.examples[1:] == (await mine(store, [QUERY])).examples

    async def test_progress_counts_queries(self, store: MemoryStore) -> None:
        steps: list[int] = []
        await mine(store, [QUERY, QUERY], progress=steps.append)
        assert steps == [1, 1]

    async def test_figures_add_up(self, store: MemoryStore) -> None:
        stats = (await mine(store, [QUERY])).stats
        assert (stats.queries, stats.examples, stats.mean_negatives) == (1, 1, 4)
        assert stats.candidates == len(NOTES)
        assert (stats.positives, stats.copies, stats.above, stats.labelled) == (1, 2, 0, 0)

    async def test_without_vectors_it_says_what_to_do(self, home: Path) -> None:
        async with await MemoryStore.open(home, model="no/such-model") as store:
            await store.remember(NewMemory(id="gold", text=GOLD, namespace="kitchen"))
            with pytest.raises(ModelUnavailable):
                await mine(store, [QUERY])


class TestRanked:
    async def test_it_is_the_order_of_a_recall(self, store: MemoryStore) -> None:
        query = LabelledQuery("q", "What does berth seventeen cost?", frozenset(["berth"]), "boat")
        (asked,) = await rank(store, [query], depth=3)
        recall = await store.recall(query.text, log=False)
        assert asked.ids[0] == recall.hits[0].id == "berth"
        assert len(asked.ids) == len(asked.scores) == 3
        assert (np.diff(asked.scores) <= 0).all()
        assert asked.gold.tolist() == [True, False, False]

    async def test_a_query_without_a_namespace_is_asked_everywhere(
        self, store: MemoryStore
    ) -> None:
        (asked,) = await rank(store, [replace(QUERY, namespace=None)], depth=30)
        assert set(asked.ids) == NOTES.keys() | ELSEWHERE.keys()


class TestPassages:
    LONG = "\n\n".join(
        f"{topic} " * 60 + "was all that we talked about on that day in the harbour office."
        for topic in ("Halyards", "Insurance", "Moorings", "Diesel", "Lighthouses", "Seagulls")
    )

    async def test_of_a_long_memory_the_passage_that_matches_is_read(
        self, store: MemoryStore
    ) -> None:
        assert len(split_passages(self.LONG)) > 2
        await store.remember(NewMemory(id="long", text=self.LONG, namespace="boat"))
        for topic in ("Halyards", "Seagulls"):
            query = LabelledQuery("q", f"{topic} harbour office", frozenset(["long"]), "boat")
            (asked,) = await rank(store, [query])
            (example,) = (await mine(store, [query])).examples
            number = asked.numbers[asked.ids.index("long")]
            span = split_passages(self.LONG)[number]
            assert example.texts[0] == self.LONG[span.start : span.end]
            assert topic in example.texts[0]
