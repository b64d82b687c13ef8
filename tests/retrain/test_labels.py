"""Labels: read from files, kept by a store, and used only as far as a store holds the memories."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from byheart_retrain.labels import LabelCounts, merged, read_labels, store_queries, usable
from byheart_retrain.queries import LabelledQuery
from byheart_store import InvalidInput, MemoryStore, NewMemory

from ..conftest import Filled

Write = Callable[..., Path]

QUERY = {"query": "Where is the jar?", "positives": ["jar"]}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows, or lines as they are, as a labels file."""

    def written(*rows: Any) -> Path:
        path = tmp_path / "labels.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n")
        return path

    return written


@pytest.fixture
async def store(home: Path, filled: Filled) -> AsyncIterator[MemoryStore]:
    async with await MemoryStore.open(await filled(three, home)) as opened:
        yield opened


async def three(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        await store.remember_many(
            [
                NewMemory(id="jar", text="The starter is in the jar.", namespace="kitchen"),
                NewMemory(id="oven", text="The oven is hot at the back.", namespace="kitchen"),
                NewMemory(id="mast", text="The mast is of spruce.", namespace="boat"),
            ]
        )


def asked(text: str, *gold: str, **more: Any) -> LabelledQuery:
    return LabelledQuery(text, text, frozenset(gold), **more)


class TestLines:
    def test_a_line_needs_a_question_and_what_answers_it(self, write: Write) -> None:
        (found,) = read_labels(write(QUERY))
        assert found == LabelledQuery("labels.jsonl:1", "Where is the jar?", frozenset(["jar"]))

    def test_a_line_may_tell_more(self, write: Write) -> None:
        more = {"id": "q", "namespace": "kitchen", "type": "place", "negatives": ["oven"]}
        (found,) = read_labels(write(QUERY | more | {"comment": "ignored"}))
        assert (found.id, found.namespace, found.type) == ("q", "kitchen", "place")
        assert found.negatives == {"oven"}

    def test_numbers_are_names_too(self, write: Write) -> None:
        (found,) = read_labels(write({"id": 7, "query": "Where?", "positives": [1, "2"]}))
        assert found.id == "7"
        assert found.gold == {"1", "2"}

    def test_a_compressed_file_is_read_alike(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.jsonl.gz"
        path.write_bytes(gzip.compress(json.dumps(QUERY).encode()))
        assert [found.text for found in read_labels(path)] == ["Where is the jar?"]

    def test_a_question_asked_twice_is_one(self, write: Write) -> None:
        (found,) = read_labels(write(QUERY, QUERY | {"positives": ["oven"], "type": "place"}))
        assert (found.id, found.type) == ("labels.jsonl:1", "place")
        assert found.gold == {"jar", "oven"}

    def test_the_same_question_in_another_namespace_is_another(self, write: Write) -> None:
        assert len(read_labels(write(QUERY, QUERY | {"namespace": "boat"}))) == 2

    @pytest.mark.parametrize("useful_last", [True, False])
    def test_of_two_judgements_the_later_one_counts(self, write: Write, useful_last: bool) -> None:
        useless = {"query": QUERY["query"], "negatives": ["jar"]}
        rows = [useless, QUERY] if useful_last else [QUERY, useless]
        (found,) = read_labels(write(*rows))
        assert ("jar" in found.gold, "jar" in found.negatives) == (useful_last, not useful_last)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("{", "is not JSON"),
            ("[]", "is not a JSON object; write"),
            ({"positives": ["jar"]}, "query: is missing; give the question"),
            (QUERY | {"query": " "}, "query: must be a text that is not empty"),
            (QUERY | {"query": "why " * 10_000}, "query: has 40,000 characters, at most"),
            (QUERY | {"query": ["?"]}, "query: must be a text"),
            ({"query": "Where?"}, "positives: name the ids"),
            (QUERY | {"positives": []}, "positives: name the ids"),
            (QUERY | {"positives": "jar"}, "positives: must be a list of memory ids"),
            (QUERY | {"positives": [None]}, "positives: must be a list of memory ids"),
            (QUERY | {"negatives": [""]}, "negatives: must be a list of memory ids"),
            (QUERY | {"negatives": ["jar"]}, "'jar' is both positive and negative; choose one"),
            (QUERY | {"namespace": True}, "namespace: must be a text"),
        ],
    )
    def test_an_error_names_file_and_line(self, write: Write, line: Any, problem: str) -> None:
        path = write(QUERY, "", line)
        with pytest.raises(InvalidInput) as raised:
            read_labels(path)
        assert str(raised.value).startswith(f"{path}:3: {problem}")
        assert "\n" not in str(raised.value)

    def test_a_file_without_questions_is_refused(self, write: Write) -> None:
        with pytest.raises(InvalidInput, match=r"labels.jsonl: holds no question; write"):
            read_labels(write())

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"absent.jsonl: can't be read"):
            read_labels(tmp_path / "absent.jsonl")


class TestMerging:
    def test_different_questions_of_one_id_get_their_own(self) -> None:
        queries = [
            LabelledQuery("q", text, frozenset(["jar"])) for text in ("Where?", "When?", "Where?")
        ]
        found = merged([*queries, LabelledQuery("p", "Why?", frozenset(["jar"]))])
        assert [query.text for query in found] == ["Where?", "When?", "Why?"]
        assert len({query.id for query in found}) == 3
        assert found[-1].id == "p"


class TestQrels:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "beir"
        folder.mkdir()
        about = {"namespace": "kitchen", "type": "place"}
        query = {"_id": "q", "text": "Where is the jar?", "metadata": about}
        (folder / "queries.jsonl").write_text(json.dumps(query))
        (folder / "corpus.jsonl").write_text(json.dumps({"_id": "jar", "text": "In the jar."}))
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tjar\t1\nq\toven\t0\n")
        return folder

    def test_a_beir_folder_is_read(self, folder: Path) -> None:
        (found,) = read_labels(folder)
        assert (found.id, found.namespace) == ("q", "kitchen")
        assert found.gold == {"jar"}

    def test_qrels_are_read_with_their_queries(self, folder: Path) -> None:
        both = read_labels(folder / "qrels.tsv", folder / "queries.jsonl")
        assert both == read_labels(folder)

    def test_qrels_without_queries_say_what_is_missing(self, folder: Path) -> None:
        with pytest.raises(InvalidInput, match=r"qrels.tsv:1: .* together with their queries"):
            read_labels(folder / "qrels.tsv")

    def test_qrels_of_other_queries_are_refused(self, folder: Path) -> None:
        (folder / "qrels.tsv").write_text("p\tjar\t1\n")
        with pytest.raises(InvalidInput, match=r"judges 'p', which .*queries.jsonl does not ask"):
            read_labels(folder / "qrels.tsv", folder / "queries.jsonl")


class TestUsable:
    async def test_memories_that_are_not_there_are_dropped(self, store: MemoryStore) -> None:
        queries = [
            asked("first", "jar", "gone", negatives=frozenset(["oven", "gone-too"])),
            asked("second", "gone"),
        ]
        (found,), counts = await usable(store, queries)
        assert found.gold == {"jar"}
        assert found.negatives == {"oven"}
        assert counts == LabelCounts(
            queries=1, positives=1, negatives=1, dropped=3, left_out=1, sources={"file": 2}
        )
        assert counts.labels == 2

    async def test_the_namespace_is_that_of_the_answers(self, store: MemoryStore) -> None:
        queries = [asked("one", "jar", "oven"), asked("both", "jar", "mast")]
        found, _ = await usable(store, queries)
        assert [query.namespace for query in found] == ["kitchen", None]

    async def test_what_is_not_where_the_question_is_asked_is_dropped(
        self, store: MemoryStore
    ) -> None:
        (found,), counts = await usable(store, [asked("one", "jar", "mast", namespace="boat")])
        assert found.gold == {"mast"}
        assert counts.dropped == 1

    async def test_a_replaced_memory_answers_nothing(self, store: MemoryStore) -> None:
        await store.remember(
            NewMemory(id="shelf", text="The starter is on the shelf.", replaces="jar")
        )
        (found,), _ = await usable(store, [asked("where", "jar", "oven")])
        assert found.gold == {"oven"}

    async def test_a_question_that_gets_the_same_namespace_is_the_same(
        self, store: MemoryStore
    ) -> None:
        queries = [asked("where", "jar", namespace="kitchen"), asked("where", "oven")]
        (found,), _ = await usable(store, queries)
        assert found.gold == {"jar", "oven"}

    async def test_the_sources_of_labels_are_counted(self, store: MemoryStore) -> None:
        recall = await store.recall("where is the jar?")
        await store.feedback(recall.recall_id, ["jar"], ["oven"], source="user")
        queries = merged([*await store_queries(store), asked("what mast?", "mast")])
        _, counts = await usable(store, queries)
        assert counts.sources == {"user": 2, "file": 1}

    async def test_labels_of_other_memories_say_what_to_do(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidInput, match=r"one of the 1 questions .* byheart import"):
            await usable(store, [asked("where", "gone")])

    async def test_no_labels_say_what_to_do(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidInput, match=r"there are none; .* byheart label"):
            await usable(store, [])


class TestStore:
    async def test_recalls_found_useful_become_questions(self, store: MemoryStore) -> None:
        await label(store)
        (found,) = await store_queries(store)
        assert (found.text, found.namespace) == ("where is the jar?", "kitchen")
        assert found.gold == {"jar"}
        assert found.negatives == {"oven"}

    async def test_a_later_label_counts(self, store: MemoryStore) -> None:
        await label(store)
        again = await store.recall("where is the jar?")
        await store.feedback(again.recall_id, ["oven"], ["jar"])
        (found,) = await store_queries(store)
        assert found.gold == {"oven"}
        assert found.negatives == {"jar"}

    async def test_a_question_that_nothing_was_useful_for_is_left_out(
        self, store: MemoryStore
    ) -> None:
        recall = await store.recall("where is the jar?")
        await store.feedback(recall.recall_id, [], ["jar"])
        assert await store_queries(store) == []

    async def test_labels_survive_another_model(self, store: MemoryStore, other_model: str) -> None:
        await label(store)
        labels, queries = await store.labels(), await store_queries(store)
        await store.reindex()
        assert await store.labels() == labels
        await store.reindex(other_model)
        assert await store.labels() == labels
        assert await store_queries(store) == queries
        assert (await usable(store, queries))[0] == queries

    async def test_labels_go_with_a_forgotten_memory(self, store: MemoryStore) -> None:
        await label(store)
        await store.forget(["oven"])
        (found,) = await store_queries(store)
        assert found.gold == {"jar"}
        assert not found.negatives
        await store.forget(["jar"])
        assert await store_queries(store) == []


async def label(store: MemoryStore) -> None:
    recall = await store.recall("where is the jar?")
    await store.feedback(recall.recall_id, ["jar"], ["oven"])
