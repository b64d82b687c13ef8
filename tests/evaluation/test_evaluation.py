"""Asking a real store, and what is reported of its answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from byheart_retrain.benchmarks import (
    Benchmark,
    load,
    open_benchmark_store,
    read_run,
    write_run,
)
from byheart_retrain.evaluation import METRICS, Answer, ask, compared, report
from byheart_retrain.evaluation.asking import folded
from byheart_retrain.labels import known_item_queries, own_queries
from byheart_retrain.labels.own_store import FEWEST_LABELLED
from byheart_retrain.queries import LabelledQuery
from byheart_store import InvalidInput, Memory, MemoryStore, NewMemory
from byheart_store.models.encoder import Encoder
from byheart_store.records import Mode

from .conftest import MEMORIES

MODES: tuple[Mode, ...] = ("hybrid", "vector", "text")
CONTRACT = {"memory", "session", "by_type", "latency_ms", "queries"}


@pytest.fixture(scope="module")
def benchmark(benchmark_folder: Path) -> Benchmark:
    return load(benchmark_folder, "beir")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def sessions(benchmark: Benchmark) -> dict[str, str]:
    return {str(memory.id): memory.session for memory in benchmark.memories if memory.session}


@pytest.fixture(scope="module")
def asked(benchmark: Benchmark, cache: Path, sessions: dict[str, str]) -> dict[str, list[Answer]]:
    """The answers in each mode."""

    async def all_modes() -> dict[str, list[Answer]]:
        async with await open_benchmark_store(benchmark.memories, None, cache) as store:
            return {
                mode: await ask(store, benchmark.queries, sessions=sessions, mode=mode)
                for mode in MODES
            }

    return asyncio.run(all_modes())


@pytest.fixture
async def filled(asked: object, benchmark: Benchmark, cache: Path) -> AsyncIterator[MemoryStore]:
    async with await open_benchmark_store(benchmark.memories, None, cache) as store:
        yield store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(tmp_path / "home") as opened:
        yield opened


def answer(name: str, found: str, gold: str = "", **named: Any) -> Answer:
    """An answer with memories and gold of one letter each; sessions are the same in capitals."""
    values: dict[str, Any] = {
        "query": LabelledQuery(name, "?", frozenset(gold), type=named.pop("type", None)),
        "memories": tuple(found),
        "relevances": tuple(1 / position for position, _ in enumerate(found, start=2)),
        "sessions": tuple(found.upper()),
        "gold_sessions": frozenset(gold.upper()),
        "answerable": 0.5 if found else 0.0,
        "best_cosine": 0.5,
        "best_bm25": 1.0,
        "no_match": not found,
        "milliseconds": 1.0,
    }
    return Answer(**values | named)


def mean(figures: dict[str, Any], name: str = "mrr", level: str = "memory") -> float:
    value: float = figures[level][name]["mean"]
    return value


class TestAsking:
    @pytest.mark.parametrize("mode", MODES)
    def test_every_query_is_asked_in_its_namespace(
        self, asked: dict[str, list[Answer]], benchmark: Benchmark, mode: Mode
    ) -> None:
        lies_in = {memory.id: memory.namespace for memory in benchmark.memories}
        assert [found.query for found in asked[mode]] == benchmark.queries
        for found in asked[mode]:
            assert {lies_in[memory] for memory in found.memories} <= {found.query.namespace}

    @pytest.mark.parametrize("mode", MODES)
    def test_each_mode_finds_what_shares_its_words_and_sense(
        self, asked: dict[str, list[Answer]], mode: Mode
    ) -> None:
        found = next(found for found in asked[mode] if found.query.id == "q-starter")
        assert found.memories[0] == "m0"

    def test_the_vector_mode_ranks_everything_and_the_text_mode_what_shares_a_word(
        self, asked: dict[str, list[Answer]]
    ) -> None:
        assert {len(found.memories) for found in asked["vector"]} == {6}
        assert min(len(found.memories) for found in asked["text"]) < 6

    async def test_sessions_are_folded_from_a_wider_recall(
        self, filled: MemoryStore, benchmark: Benchmark, sessions: dict[str, str]
    ) -> None:
        one = await ask(filled, benchmark.queries[:1], sessions=sessions, mode="vector", limit=1)
        assert one[0].memories == ("m0",)
        assert one[0].sessions == ("monday", "friday")
        assert one[0].gold_sessions == {"monday"}

    async def test_without_sessions_none_are_asked_for(
        self, filled: MemoryStore, benchmark: Benchmark
    ) -> None:
        assert (await ask(filled, benchmark.queries[:1]))[0].sessions == ()

    async def test_progress_is_told_of_every_query(
        self, filled: MemoryStore, benchmark: Benchmark
    ) -> None:
        told: list[int] = []
        await ask(filled, benchmark.queries, progress=told.append)
        assert sum(told) == len(benchmark.queries)

    async def test_nothing_of_it_is_logged(self, filled: MemoryStore, benchmark: Benchmark) -> None:
        await ask(filled, benchmark.queries)
        assert await filled.logged_recalls() == []

    async def test_hits_fold_into_sessions_in_rank_order(self, filled: MemoryStore) -> None:
        recall = await filled.recall("the rudder and the oven", mode="vector", limit=12)
        in_order = [hit.memory.session for hit in recall.hits]
        assert folded(recall.hits) == tuple(dict.fromkeys(in_order))

    async def test_a_memory_without_a_session_is_its_own(self, store: MemoryStore) -> None:
        await store.remember(NewMemory(id="alone", text="The lighthouse keeper retired."))
        assert folded((await store.recall("lighthouse keeper")).hits) == ("alone",)

    def test_a_run_is_written_and_read_back(
        self, asked: dict[str, list[Answer]], tmp_path: Path
    ) -> None:
        rankings = {found.query.id: list(found.memories) for found in asked["vector"]}
        write_run(tmp_path / "run.trec", rankings, "byheart-vector")
        assert read_run(tmp_path / "run.trec") == rankings


class TestCache:
    async def test_a_second_run_embeds_no_memory_again(
        self,
        asked: object,
        benchmark: Benchmark,
        cache: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr(Encoder, "encode_passages", refuse)
        told: list[int] = []
        async with await open_benchmark_store(benchmark.memories, None, cache, told.append) as kept:
            assert (await ask(kept, benchmark.queries[:1]))[0].memories[0] == "m0"
        assert told == []

    async def test_what_was_interrupted_is_completed(self, tmp_path: Path) -> None:
        memories = [NewMemory(id=name, text=f"Note {name}") for name in "abc"]
        async with await open_benchmark_store(memories, None, tmp_path) as kept:
            await kept.forget(["b"])
        async with await open_benchmark_store(memories, None, tmp_path) as kept:
            assert (await kept.stats()).memories == 3

    async def test_other_memories_have_a_store_of_their_own(self, tmp_path: Path) -> None:
        for text in ("The first draft.", "The second draft."):
            async with await open_benchmark_store([NewMemory(text=text)], None, tmp_path) as kept:
                assert [memory.text async for memory in kept.memories()] == [text]


class TestReport:
    def test_it_has_the_keys_of_the_contract(self) -> None:
        figures = report([answer("q1", "ab", "a", type="fact")])
        assert set(figures) == CONTRACT
        assert set(figures["latency_ms"]) == {"p50", "p99"}
        assert set(figures["by_type"]["fact"]) == {"memory", "session", "queries"}
        for level in ("memory", "session"):
            assert list(figures[level]) == list(METRICS)
            assert all(set(found) == {"mean", "low", "high"} for found in figures[level].values())

    def test_the_metrics_are_those_of_the_contract(self) -> None:
        recalls = {f"recall@{depth}" for depth in (1, 3, 5, 10)}
        assert set(METRICS) == {"ndcg@10", "mrr", "hit@5"} | recalls

    def test_it_is_json(self, asked: dict[str, list[Answer]]) -> None:
        for answers in asked.values():
            figures = report(answers)
            assert json.loads(json.dumps(figures, allow_nan=False)) == figures

    def test_means_are_over_the_queries(self) -> None:
        figures = report([answer("q1", "ab", "a"), answer("q2", "ab", "b")])
        assert mean(figures) == 0.75
        assert figures["queries"] == 2

    def test_levels_are_judged_apart(self) -> None:
        found = answer("q1", "xa", "a", sessions=("A", "X"))
        assert mean(report([found])) == 0.5
        assert mean(report([found]), level="session") == 1

    def test_queries_without_gold_are_left_out_of_the_means(self) -> None:
        figures = report([answer("q1", "a", "a"), answer("q2", "ab")])
        assert mean(figures) == 1
        assert figures["queries"] == 2

    def test_queries_without_gold_are_false_positives_when_given_an_answer(self) -> None:
        answers = [answer("q1", "a", "a"), *(answer(f"n{n}", "ab") for n in range(3))]
        figures = report([*answers, answer("n3", "", no_match=True)])["false_positives"]
        assert figures["queries"] == 4
        assert figures["rate"]["mean"] == 0.75
        assert set(figures["rate"]) == {"mean", "low", "high"}

    def test_a_query_judged_by_session_alone_counts_there(self) -> None:
        only = answer("q2", "x", gold_sessions=frozenset("X"), type="sessions")
        figures = report([answer("q1", "xa", "a"), only])
        assert mean(figures) == 0.5
        assert mean(figures, level="session") == 0.75
        assert "false_positives" not in figures
        assert set(figures["by_type"]["sessions"]) == {"session", "queries"}

    def test_types_are_reported_as_if_alone(self) -> None:
        facts = [answer("q1", "ab", "a", type="fact"), answer("q2", "ab", "b", type="fact")]
        figures = report([*facts, answer("q3", "", "a", type="time"), answer("q4", "a", "a")])
        assert figures["by_type"]["fact"]["memory"] == report(facts)["memory"]
        assert figures["by_type"]["time"]["queries"] == 1
        assert set(figures["by_type"]) == {"fact", "time"}

    def test_a_type_that_nothing_answers_has_only_its_count(self) -> None:
        figures = report([answer("q1", "a", "a"), answer("q2", "a", type="abstention")])
        assert figures["by_type"]["abstention"] == {"queries": 1}

    def test_latency_is_a_median_and_a_99th_percentile(self) -> None:
        times = [answer(str(n), "a", "a", milliseconds=float(n)) for n in range(1, 102)]
        assert report(times)["latency_ms"] == {"p50": 51.0, "p99": 100.0}

    def test_relevance_is_judged_where_some_queries_have_no_answer(self) -> None:
        known = [answer(f"q{n}", "a", "a", relevances=(0.9,), answerable=0.9) for n in range(4)]
        unknown = [answer(f"n{n}", "x", relevances=(0.1,), answerable=0.1) for n in range(4)]
        figures = report(known + unknown)["relevance"]
        told = {name: figures[name] for name in ("auroc", "fpr@95", "ece", "missed", "query_ece")}
        assert told == pytest.approx(
            {"auroc": 1, "fpr@95": 0, "ece": 0.1, "missed": 0, "query_ece": 0.1}
        )
        assert figures["by_cosine"]["auroc"] == figures["by_bm25"]["auroc"] == 0.5

    def test_answers_without_hits_are_reported(self) -> None:
        figures = report([answer("q1", "", "a"), answer("q2", "")])
        assert mean(figures) == 0
        assert figures["relevance"]["missed"] == 1
        assert "ece" not in figures["relevance"]
        json.dumps(figures, allow_nan=False)


class TestComparison:
    def test_a_run_does_not_differ_from_itself(self, asked: dict[str, list[Answer]]) -> None:
        theirs = {found.query.id: found.memories for found in asked["hybrid"]}
        differences = compared(asked["hybrid"], theirs)
        assert all(found.mean == found.low == found.high == 0 for found in differences.values())

    def test_it_is_ours_minus_theirs(self) -> None:
        difference = compared([answer("q1", "ab", "a")], {"q1": ["b", "a"]})["mrr"]
        assert (difference.mean, difference.low, difference.high) == (0.5, 0.5, 0.5)

    def test_it_is_paired(self) -> None:
        ours = [answer(f"q{n}", "x" * (n % 9) + "ay", "a") for n in range(60)]
        theirs = {found.query.id: ["z", *found.memories] for found in ours}
        difference, alone = compared(ours, theirs)["mrr"], report(ours)["memory"]["mrr"]
        assert difference.low > 0
        assert difference.high - difference.low < alone["high"] - alone["low"]

    def test_what_they_did_not_answer_counts_as_nothing_found(self) -> None:
        ours = [answer("q1", "a", "a"), answer("q2", "a", "a")]
        assert compared(ours, {"q1": ["a"]})["recall@1"].mean == 0.5

    def test_queries_without_gold_do_not_count(self) -> None:
        ours = [answer("q1", "a", "a"), answer("q2", "a")]
        assert compared(ours, {"q1": ["a"], "q2": ["b"]})["ndcg@10"].mean == 0

    def test_the_run_of_another_benchmark_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="answers none of these queries; give another"):
            compared([answer("q1", "a", "a")], {"other": ["a"]})


async def remember_notes(store: MemoryStore, count: int) -> list[str]:
    notes = [NewMemory(text=f"Parcel {n} went to shelf {n * 7}", session="s") for n in range(count)]
    return [receipt.id for receipt in await store.remember_many(notes)]


async def label(store: MemoryStore, count: int, *, useful: bool = True) -> None:
    for number in range(count):
        recall = await store.recall(f"where is parcel {number}", mode="text", limit=3)
        judged = [recall.hits[0].id]
        await store.feedback(recall.recall_id, *((judged, []) if useful else ([], judged)))


async def remember_sentences(store: MemoryStore) -> None:
    await store.remember_many(
        [
            NewMemory(text=text, namespace=namespace, session=session)
            for namespace, session, text in MEMORIES
        ]
    )


class TestOwnStore:
    async def test_enough_labelled_recalls_are_asked_again(self, store: MemoryStore) -> None:
        kept = await remember_notes(store, 8)
        await label(store, FEWEST_LABELLED)
        own = await own_queries(store)
        assert own.kind == "labelled"
        assert len(own.queries) == FEWEST_LABELLED
        assert all(len(found.gold) == 1 and found.gold <= set(kept) for found in own.queries)
        assert own.sessions == dict.fromkeys(kept, "s")

    async def test_too_few_labels_give_way_to_known_items(self, store: MemoryStore) -> None:
        await remember_sentences(store)
        await remember_notes(store, 2)
        await label(store, FEWEST_LABELLED - 1)
        assert (await own_queries(store)).kind == "known-item"

    async def test_what_was_not_useful_is_no_gold(self, store: MemoryStore) -> None:
        await remember_sentences(store)
        await remember_notes(store, 2)
        await label(store, FEWEST_LABELLED, useful=False)
        assert (await own_queries(store)).kind == "known-item"

    async def test_labels_of_what_was_forgotten_are_not_asked(self, store: MemoryStore) -> None:
        await remember_sentences(store)
        kept = await remember_notes(store, 1)
        await label(store, FEWEST_LABELLED)
        assert (await own_queries(store)).kind == "labelled"
        await store.forget(kept)
        assert (await own_queries(store)).kind == "known-item"

    async def test_labels_of_another_namespace_are_not_asked(self, store: MemoryStore) -> None:
        await remember_sentences(store)
        await remember_notes(store, 2)
        await label(store, FEWEST_LABELLED)
        assert (await own_queries(store, ["boat"])).kind == "known-item"
        assert (await own_queries(store, ["default"])).kind == "labelled"

    async def test_known_items_are_found_again(self, store: MemoryStore) -> None:
        await remember_sentences(store)
        own = await own_queries(store)
        figures = report(await ask(store, own.queries, sessions=own.sessions))
        assert mean(figures, "recall@1") > 0.8
        assert mean(figures, "recall@1", "session") > 0.8

    async def test_one_namespace_can_be_asked(self, store: MemoryStore) -> None:
        await remember_sentences(store)
        own = await own_queries(store, ["boat"])
        assert {found.namespace for found in own.queries} == {"boat"}

    async def test_an_empty_store_says_what_to_do(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidInput, match=r"remember something first, or .* byheart eval"):
            await own_queries(store)


class TestKnownItems:
    async def drawn_from(self, store: MemoryStore) -> list[Memory]:
        await remember_sentences(store)
        await store.remember(NewMemory(text="Yes, of course."))
        return [memory async for memory in store.memories()]

    async def test_a_memory_is_asked_for_by_its_rarest_words(self, store: MemoryStore) -> None:
        memories = await self.drawn_from(store)
        texts = {memory.id: memory.text.lower() for memory in memories}
        for found in known_item_queries(memories):
            (gold,) = found.gold
            words = found.text.split()
            assert len(words) == 4
            assert "the" not in words
            assert sorted(words, key=texts[gold].index) == words

    async def test_the_same_are_drawn_each_time(self, store: MemoryStore) -> None:
        memories = await self.drawn_from(store)
        assert known_item_queries(memories) == known_item_queries(memories)
        assert known_item_queries(memories, most=3) == known_item_queries(memories)[:3]

    async def test_what_says_too_little_is_not_drawn(self, store: MemoryStore) -> None:
        memories = await self.drawn_from(store)
        short = {memory.id for memory in memories if memory.text == "Yes, of course."}
        drawn = frozenset().union(*(found.gold for found in known_item_queries(memories)))
        assert not drawn & short
