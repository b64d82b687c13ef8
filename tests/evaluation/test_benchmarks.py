"""Benchmarks are read as they are published, oddities included; what is broken is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from byheart_retrain.benchmarks import Benchmark, Format, load
from byheart_retrain.queries import LabelledQuery
from byheart_store import InvalidInput, NewMemory

from .conftest import corpus_rows, judgements, lines, query_rows

Json = dict[str, Any]


def longmemeval() -> list[Json]:
    """Two questions, in the form of longmemeval_s.json."""
    garden = [
        {"role": "user", "content": "The pear tree is in flower at last.", "has_answer": True},
        {"role": "assistant", "content": "How lovely! When did you plant it?", "has_answer": False},
    ]
    chess = [
        {"role": "user", "content": "Which opening suits a patient player?"},
        {"role": "assistant", "content": "Try the Caro-Kann."},
    ]
    answered = {
        "question_id": "71ae20c1",
        "question_type": "single-session-user",
        "question": "Which tree of mine is in flower?",
        "answer": "The pear tree",
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_dates": [
            "2023/05/20 (Sat) 02:21",
            "2023/05/21 (Sun) 10:05",
            "2023/05/22 (Mon) 18:00",
        ],
        "haystack_session_ids": ["sharegpt_k7", "answer_5c2d_1", "sharegpt_k7"],
        "haystack_sessions": [chess, garden, chess],
        "answer_session_ids": ["answer_5c2d_1"],
    }
    unanswerable = answered | {
        "question_id": "71ae20c1_abs",
        "question": "Which hedge of mine is in flower?",
        "answer": 0,
    }
    return [answered, unanswerable]


def locomo() -> list[Json]:
    """One conversation, in the form of locomo10.json."""
    conversation = {
        "speaker_a": "Signe",
        "speaker_b": "Otto",
        "session_10_date_time": "12:09 am on 13 September, 2023",
        "session_10": [{"speaker": "Otto", "dia_id": "D10:1", "text": "The kiln cooled down."}],
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_2": [
            {"speaker": "Signe", "dia_id": "D2:1", "text": "I took up glass blowing."},
            {
                "speaker": "Otto",
                "img_url": ["https://example.org/vase.jpg"],
                "blip_caption": "a photo of a green vase",
                "query": "green glass vase",
                "dia_id": "D2:2",
                "re-download": True,
                "text": "Look what I made.",
            },
            {"speaker": "Signe", "dia_id": "D2:3", "text": "It is splendid."},
        ],
        "session_11_date_time": "9:00 am on 1 October, 2023",
    }
    qa: list[Json] = [
        {"question": "What craft?", "answer": "glass", "evidence": ["D2:1", "D2:2"], "category": 1},
        {"question": "When was it?", "answer": 2023, "evidence": ["D2:2"], "category": 2},
        {"question": "Is she patient?", "answer": "Likely", "evidence": [], "category": 3},
        {"question": "What cooled?", "answer": "kiln", "evidence": ["D10:1"], "category": 4},
        {
            "question": "What did Otto take up?",
            "adversarial_answer": "glass blowing",
            "evidence": ["D2:1"],
            "category": 5,
        },
    ]
    return [
        {
            "sample_id": "conv-7",
            "conversation": conversation,
            "qa": qa,
            "event_summary": {},
            "observation": {},
            "session_summary": {},
        }
    ]


Read = Callable[[Any], Benchmark]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any, Format], Benchmark]:
    def loaded(content: Any, file_format: Format) -> Benchmark:
        path = tmp_path / "benchmark.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return load(path, file_format)

    return loaded


@pytest.fixture
def read_locomo(read: Callable[[Any, Format], Benchmark]) -> Read:
    return lambda content: read(content, "locomo")


@pytest.fixture
def read_longmemeval(read: Callable[[Any, Format], Benchmark]) -> Read:
    return lambda content: read(content, "longmemeval")


def by_id(benchmark: Benchmark) -> dict[str | None, NewMemory]:
    return {memory.id: memory for memory in benchmark.memories}


def query(benchmark: Benchmark, name: str) -> LabelledQuery:
    return next(found for found in benchmark.queries if found.id == name)


class TestBeir:
    def test_a_folder_is_read(self, beir: Path) -> None:
        benchmark = load(beir, "beir")
        assert len(benchmark.memories) == 12
        assert query(benchmark, "q-oven").gold == {"m4", "m5"}
        assert query(benchmark, "q-oven").namespace == "kitchen"
        assert query(benchmark, "q-oven").type == "fact"

    def test_compressed_files_are_read_alike(self, beir: Path) -> None:
        plain = load(beir, "beir")
        for path in [beir / "corpus.jsonl", beir / "queries.jsonl", beir / "qrels.tsv"]:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        assert load(beir, "beir") == plain

    @pytest.mark.parametrize("name", ["qrels/test.tsv", "qrels/test.tsv.gz"])
    def test_the_test_split_is_taken_from_its_folder(self, beir: Path, name: str) -> None:
        plain = load(beir, "beir")
        (beir / "qrels.tsv").unlink()
        (beir / "qrels").mkdir()
        raw = judgements().encode()
        (beir / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
        assert load(beir, "beir") == plain

    def test_questions_of_other_splits_are_not_asked(self, beir: Path) -> None:
        header, *rows = judgements().splitlines(keepends=True)
        (beir / "qrels.tsv").unlink()
        (beir / "qrels").mkdir()
        (beir / "qrels" / "train.tsv").write_text(header + "".join(rows[:3]))
        (beir / "qrels" / "test.tsv").write_text(header + "".join(rows[3:]))
        asked = [found.id for found in load(beir, "beir").queries]
        assert asked == ["q-oven", "q-launch", "q-berth", "q-damage", "q-piano"]

    def test_trecs_four_columns_are_judgements_too(self, beir: Path) -> None:
        (beir / "qrels.tsv").write_text("q-cake 0 m2 1\nq-cake 0 m3 0\n\nq-buns 0 m3 2\n")
        benchmark = load(beir, "beir")
        assert query(benchmark, "q-cake").gold == {"m2"}
        assert query(benchmark, "q-buns").gold == {"m3"}

    def test_ids_with_spaces_stand_between_tabs(self, beir: Path) -> None:
        (beir / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\r\nq-cake\tplum cake\t1\r\n")
        assert query(load(beir, "beir"), "q-cake").gold == {"plum cake"}

    def test_a_judgement_of_0_is_no_answer(self, beir: Path) -> None:
        (beir / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq-cake\tm2\t0\n")
        assert query(load(beir, "beir"), "q-cake").gold == frozenset()

    def test_a_plain_query_is_asked_everywhere(self, beir: Path) -> None:
        (beir / "queries.jsonl").write_text('{"_id": 5, "text": "Where?", "metadata": {}}\n')
        assert load(beir, "beir").queries == [LabelledQuery("5", "Where?", frozenset())]

    def test_other_queries_take_the_place_of_its_own(self, beir: Path, tmp_path: Path) -> None:
        chosen = tmp_path / "chosen.jsonl"
        chosen.write_text(lines(query_rows()[1:2]))
        assert [found.id for found in load(beir, "beir", chosen).queries] == ["q-cake"]

    @pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
    def test_a_folder_that_lacks_a_file_is_refused(self, beir: Path, name: str) -> None:
        (beir / name).unlink()
        with pytest.raises(InvalidInput, match=rf"beir: holds no.* {name}"):
            load(beir, "beir")

    @pytest.mark.parametrize("line", ["q-cake\tm2", "q-cake\tm2\thigh", "nonsense"])
    def test_a_line_that_judges_nothing_is_named(self, beir: Path, line: str) -> None:
        (beir / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
        with pytest.raises(InvalidInput, match=r"qrels.tsv:2: is no judgement; write query-id"):
            load(beir, "beir")

    def test_judgements_that_are_not_text_are_named(self, beir: Path) -> None:
        (beir / "qrels.tsv").write_bytes(b"q\xff\tm1\t1\n")
        with pytest.raises(InvalidInput, match=r"qrels.tsv: can't be read .* UTF-8"):
            load(beir, "beir")

    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            ({"text": "Where?"}, "queries.jsonl: query 1: _id: is missing"),
            ({"_id": "q"}, "queries.jsonl: query 1: text: is missing"),
            ({"_id": "q", "text": 5}, "text: must be a text"),
            ({"_id": "q", "text": " "}, "text: is empty"),
            ({"_id": ["q"], "text": "Where?"}, "_id: must be a text"),
            ({"_id": "q", "text": "Where?", "metadata": [1]}, "metadata must be an object"),
            ({"_id": "q", "text": "Where?", "metadata": {"type": []}}, "type: must be a text"),
        ],
    )
    def test_a_query_that_can_not_be_asked_is_named(
        self, beir: Path, row: Json, problem: str
    ) -> None:
        (beir / "queries.jsonl").write_text(lines([row]))
        with pytest.raises(InvalidInput, match=problem):
            load(beir, "beir")

    def test_a_folder_that_asks_nothing_is_refused(self, beir: Path) -> None:
        (beir / "queries.jsonl").write_text("")
        with pytest.raises(InvalidInput, match="holds no question"):
            load(beir, "beir")


class TestNamespaces:
    def test_one_namespace_keeps_its_memories_and_queries(self, beir: Path) -> None:
        benchmark = load(beir, "beir").within(["boat"])
        assert {memory.namespace for memory in benchmark.memories} == {"boat"}
        assert {found.namespace for found in benchmark.queries} == {"boat"}

    def test_a_namespace_that_is_not_there_is_named_with_those_that_are(self, beir: Path) -> None:
        with pytest.raises(InvalidInput, match="attic is not in the dataset; it has boat, kitchen"):
            load(beir, "beir").within(["boat", "attic"])

    def test_memories_without_a_namespace_are_in_the_default_one(self, beir: Path) -> None:
        rows = [row | {"metadata": {}} for row in corpus_rows()]
        (beir / "corpus.jsonl").write_text(lines(rows))
        (beir / "queries.jsonl").write_text('{"_id": "q-cake", "text": "How long?"}\n')
        benchmark = load(beir, "beir")
        assert benchmark.within(["default"]) == benchmark

    def test_a_namespace_where_nothing_is_asked_is_refused(self, beir: Path) -> None:
        (beir / "queries.jsonl").write_text(lines(query_rows()[:2]))
        with pytest.raises(InvalidInput, match="nothing is asked in boat"):
            load(beir, "beir").within(["boat"])


class TestLongMemEval:
    def test_every_question_has_its_haystack_as_namespace(self, read_longmemeval: Read) -> None:
        benchmark = read_longmemeval(longmemeval())
        assert len(benchmark.memories) == 12
        assert {memory.namespace for memory in benchmark.memories} == {"71ae20c1", "71ae20c1_abs"}
        assert [found.namespace for found in benchmark.queries] == ["71ae20c1", "71ae20c1_abs"]

    def test_a_turn_knows_its_place(self, read_longmemeval: Read) -> None:
        memory = by_id(read_longmemeval(longmemeval()))["71ae20c1:1:answer_5c2d_1:1"]
        assert memory.text == "How lovely! When did you plant it?"
        assert memory.session == "71ae20c1:answer_5c2d_1"
        assert (memory.turn, memory.speaker) == (1, "assistant")
        assert memory.at == datetime(2023, 5, 21, 10, 5, tzinfo=UTC)

    def test_turns_marked_as_answers_are_gold(self, read_longmemeval: Read) -> None:
        found = query(read_longmemeval(longmemeval()), "71ae20c1")
        assert found.gold == {"71ae20c1:1:answer_5c2d_1:0"}
        assert found.type == "single-session-user"

    def test_an_abstention_question_has_no_gold(self, read_longmemeval: Read) -> None:
        found = query(read_longmemeval(longmemeval()), "71ae20c1_abs")
        assert found.gold == found.gold_sessions == frozenset()

    def test_a_session_that_comes_twice_is_kept_twice(self, read_longmemeval: Read) -> None:
        ids = by_id(read_longmemeval(longmemeval()))
        assert {"71ae20c1:0:sharegpt_k7:0", "71ae20c1:2:sharegpt_k7:0"} <= ids.keys()

    def test_gold_sessions_are_those_of_the_marked_turns(self, read_longmemeval: Read) -> None:
        content = longmemeval()
        content[0]["answer_session_ids"].append("answer_5c2d_2")
        assert query(read_longmemeval(content), "71ae20c1").gold_sessions is None

    def test_sessions_judged_without_a_marked_turn_are_gold(self, read_longmemeval: Read) -> None:
        content = longmemeval()
        del content[0]["haystack_sessions"][1][0]["has_answer"]
        found = query(read_longmemeval(content), "71ae20c1")
        assert found.gold == frozenset()
        assert found.gold_sessions == {"71ae20c1:answer_5c2d_1"}

    def test_an_empty_turn_leaves_the_others_in_place(self, read_longmemeval: Read) -> None:
        content = longmemeval()[:1]
        content[0]["haystack_sessions"][0][0]["content"] = "\n"
        ids = by_id(read_longmemeval(content))
        assert "71ae20c1:0:sharegpt_k7:0" not in ids
        assert ids["71ae20c1:0:sharegpt_k7:1"].turn == 1

    def test_one_question_may_stand_alone(self, read_longmemeval: Read) -> None:
        assert len(read_longmemeval(longmemeval()[0]).queries) == 1

    @pytest.mark.parametrize(
        "name",
        [
            "question_id",
            "question_type",
            "question",
            "haystack_dates",
            "haystack_session_ids",
            "haystack_sessions",
            "answer_session_ids",
        ],
    )
    def test_a_missing_key_is_named(self, read_longmemeval: Read, name: str) -> None:
        content = longmemeval()
        del content[0][name]
        with pytest.raises(InvalidInput, match=rf"benchmark.json: question .*: {name}: is missing"):
            read_longmemeval(content)

    def test_sessions_that_do_not_match_their_ids_are_refused(self, read_longmemeval: Read) -> None:
        content = longmemeval()
        content[0]["haystack_session_ids"].pop()
        with pytest.raises(InvalidInput, match="71ae20c1: has 2 session ids for 3 sessions"):
            read_longmemeval(content)

    @pytest.mark.parametrize("turn", [{"role": "user"}, {"content": "Hello"}, "Hello", None])
    def test_a_broken_turn_is_named(self, read_longmemeval: Read, turn: Any) -> None:
        content = longmemeval()
        content[0]["haystack_sessions"][1] = [turn]
        with pytest.raises(InvalidInput, match="question 71ae20c1: session answer_5c2d_1"):
            read_longmemeval(content)

    def test_a_date_of_another_form_is_named(self, read_longmemeval: Read) -> None:
        content = longmemeval()
        content[0]["haystack_dates"][0] = "last Tuesday"
        with pytest.raises(InvalidInput, match="'last Tuesday' is no date"):
            read_longmemeval(content)


class TestLoCoMo:
    def test_a_turn_knows_its_place(self, read_locomo: Read) -> None:
        memory = by_id(read_locomo(locomo()))["conv-7:D2:3"]
        assert memory.text == "It is splendid."
        assert (memory.namespace, memory.session) == ("conv-7", "conv-7:session_2")
        assert (memory.turn, memory.speaker) == (2, "Signe")
        assert memory.at == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)

    def test_sessions_come_by_number_and_midnight_is_midnight(self, read_locomo: Read) -> None:
        memories = read_locomo(locomo()).memories
        assert [memory.id for memory in memories][-1] == "conv-7:D10:1"
        assert memories[-1].at == datetime(2023, 9, 13, 0, 9, tzinfo=UTC)

    def test_a_caption_tells_what_an_image_shows(self, read_locomo: Read) -> None:
        memory = by_id(read_locomo(locomo()))["conv-7:D2:2"]
        assert memory.text == "Look what I made. [shares an image: a photo of a green vase]"

    def test_a_date_without_a_session_is_no_session(self, read_locomo: Read) -> None:
        sessions = {memory.session for memory in read_locomo(locomo()).memories}
        assert sessions == {"conv-7:session_2", "conv-7:session_10"}

    def test_the_five_categories_have_names(self, read_locomo: Read) -> None:
        types = [found.type for found in read_locomo(locomo()).queries]
        assert types == ["multi-hop", "temporal", "open-domain", "single-hop", "adversarial"]

    def test_a_question_without_evidence_has_no_gold(self, read_locomo: Read) -> None:
        content = locomo()
        del content[0]["qa"][1]["evidence"]
        benchmark = read_locomo(content)
        assert query(benchmark, "conv-7:q1").gold == frozenset()
        assert query(benchmark, "conv-7:q2").gold == frozenset()

    def test_an_adversarial_question_is_about_its_evidence(self, read_locomo: Read) -> None:
        assert query(read_locomo(locomo()), "conv-7:q4").gold == {"conv-7:D2:1"}

    @pytest.mark.parametrize(
        ("evidence", "turns"),
        [
            (["D2:1; D10:1"], ["D2:1", "D10:1"]),
            (["D2:1 D2:2 D10:1"], ["D2:1", "D2:2", "D10:1"]),
            (["D:10:1"], ["D10:1"]),
            (["D10:01"], ["D10:1"]),
            (["D", "D2:3"], ["D2:3"]),
            (["D2:99", "D2:3"], ["D2:3"]),
            (["D2:3", "D2:3"], ["D2:3"]),
            (["D"], []),
        ],
    )
    def test_evidence_is_read_however_it_is_spelled(
        self, read_locomo: Read, evidence: list[str], turns: list[str]
    ) -> None:
        content = locomo()
        content[0]["qa"][0]["evidence"] = evidence
        gold = query(read_locomo(content), "conv-7:q0").gold
        assert gold == {f"conv-7:{turn}" for turn in turns}

    def test_one_conversation_may_stand_alone(self, read_locomo: Read) -> None:
        assert len(read_locomo(locomo()[0]).queries) == 5

    @pytest.mark.parametrize("name", ["sample_id", "conversation", "qa"])
    def test_a_missing_key_is_named(self, read_locomo: Read, name: str) -> None:
        content = locomo()
        del content[0][name]
        with pytest.raises(InvalidInput, match=rf"benchmark.json: .*{name}: is missing"):
            read_locomo(content)

    @pytest.mark.parametrize("name", ["speaker", "dia_id", "text"])
    def test_a_broken_turn_is_named(self, read_locomo: Read, name: str) -> None:
        content = locomo()
        del content[0]["conversation"]["session_2"][0][name]
        with pytest.raises(InvalidInput, match=f"conv-7: session_2: {name}: is missing"):
            read_locomo(content)

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"question": None}, "question: is missing"),
            ({"question": ""}, "question: is empty"),
            ({"evidence": "D2:1"}, "evidence: must be a list"),
        ],
    )
    def test_a_broken_question_is_named(
        self, read_locomo: Read, change: Json, problem: str
    ) -> None:
        content = locomo()
        content[0]["qa"][0] |= change
        with pytest.raises(InvalidInput, match=f"conv-7: question 0: {problem}"):
            read_locomo(content)


class TestJsonFiles:
    def test_questions_can_be_chosen_by_id(self, tmp_path: Path) -> None:
        path, chosen = tmp_path / "locomo.json", tmp_path / "chosen.jsonl"
        path.write_text(json.dumps(locomo()))
        chosen.write_text(lines([{"_id": "conv-7:q3"}]))
        assert [found.text for found in load(path, "locomo", chosen).queries] == ["What cooled?"]

    def test_a_chosen_question_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        path, chosen = tmp_path / "locomo.json", tmp_path / "chosen.jsonl"
        path.write_text(json.dumps(locomo()))
        chosen.write_text(lines([{"_id": "conv-7:q3"}, {"_id": "conv-8:q1"}]))
        with pytest.raises(InvalidInput, match="conv-8:q1 is no question of the dataset"):
            load(path, "locomo", chosen)

    def test_a_compressed_file_is_read_alike(self, tmp_path: Path) -> None:
        path = tmp_path / "locomo.json.gz"
        path.write_bytes(gzip.compress(json.dumps(locomo()).encode()))
        assert len(load(path, "locomo").queries) == 5

    @pytest.mark.parametrize("content", ['[{"qa": ', "", "[" * 100_000])
    def test_malformed_json_is_named(self, read_locomo: Read, content: str) -> None:
        with pytest.raises(InvalidInput, match=r"benchmark.json: is not JSON .* published file"):
            read_locomo(content)

    @pytest.mark.parametrize("content", [5, "text", [[]], [None]])
    def test_json_of_another_kind_is_named(self, read_longmemeval: Read, content: Any) -> None:
        with pytest.raises(InvalidInput, match=r"benchmark\.json: entry 1: "):
            read_longmemeval(json.dumps(content))

    @pytest.mark.parametrize("file_format", ["locomo", "longmemeval"])
    def test_a_file_without_entries_asks_nothing(
        self, read: Callable[[Any, Format], Benchmark], file_format: Format
    ) -> None:
        with pytest.raises(InvalidInput, match="holds no question"):
            read([], file_format)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"absent.json: can't be read \(No such file"):
            load(tmp_path / "absent.json", "locomo")
