"""`byheart eval`: one JSON object for programs, a table for people, one line for errors."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from byheart_retrain.benchmarks import read_run
from byheart_store import MemoryStore, NewMemory
from byheart_store.models import declare
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning

from ..conftest import Call
from .conftest import MEMORIES, QUERIES, lines, query_rows

CONTRACT = {"memory", "session", "by_type", "latency_ms", "queries"}
METRICS = {"ndcg@10", "recall@1", "recall@3", "recall@5", "recall@10", "mrr", "hit@5"}


@pytest.fixture
def locomo(tmp_path: Path) -> Path:
    turns = [
        {"speaker": "Ada", "dia_id": f"D1:{position}", "text": text}
        for position, (*_, text) in enumerate(MEMORIES, start=1)
    ]
    sample = {
        "sample_id": "conv-1",
        "conversation": {"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns},
        "qa": [{"question": QUERIES[0][3], "answer": "jar", "evidence": ["D1:1"], "category": 4}],
    }
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([sample]))
    return path


class TestJson:
    def test_it_is_one_object_with_the_keys_of_the_contract(
        self, byheart: Call, benchmark_folder: Path
    ) -> None:
        outcome = byheart("eval", benchmark_folder, "--format", "beir", "--json")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.json.keys() >= CONTRACT
        assert outcome.json["queries"] == len(QUERIES)
        for level in ("memory", "session"):
            assert outcome.json[level].keys() == METRICS
            assert outcome.json[level]["ndcg@10"].keys() == {"mean", "low", "high"}

    def test_it_says_what_was_asked_how(self, byheart: Call, benchmark_folder: Path) -> None:
        figures = byheart("eval", benchmark_folder, "--mode", "text", "--json").json
        assert (figures["asked"], figures["mode"]) == ("benchmark", "text")
        assert "MiniLM" in figures["model"]

    def test_types_and_false_positives_are_reported(
        self, byheart: Call, benchmark_folder: Path
    ) -> None:
        figures = byheart("eval", benchmark_folder, "--json").json
        assert set(figures["by_type"]) == {"place", "time", "fact", "abstention"}
        assert figures["by_type"]["fact"]["queries"] == 4
        assert figures["false_positives"]["queries"] == 1

    def test_only_a_namespace(self, byheart: Call, benchmark_folder: Path) -> None:
        figures = byheart("eval", benchmark_folder, "--namespace", "kitchen", "--json").json
        assert figures["queries"] == 4
        both = ("--namespace", "kitchen", "--namespace", "boat")
        assert byheart("eval", benchmark_folder, *both, "--json").json["queries"] == len(QUERIES)

    def test_only_some_queries(self, byheart: Call, benchmark_folder: Path, tmp_path: Path) -> None:
        chosen = tmp_path / "chosen.jsonl"
        chosen.write_text(lines(query_rows()[:3]))
        outcome = byheart("eval", benchmark_folder, "--queries", chosen, "--json")
        assert outcome.json["queries"] == 3

    def test_a_limit_bounds_what_is_found(
        self, byheart: Call, benchmark_folder: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run.trec"
        byheart("eval", benchmark_folder, "--mode", "vector", "--limit", "2", "--run", run)
        assert {len(found) for found in read_run(run).values()} == {2}

    def test_published_json_is_read(self, byheart: Call, locomo: Path) -> None:
        figures = byheart("eval", locomo, "--format", "locomo", "--json").json
        assert figures["queries"] == 1
        assert set(figures["by_type"]) == {"single-hop"}


class TestRuns:
    def test_a_run_is_written_for_all_queries(
        self, byheart: Call, benchmark_folder: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run.trec"
        assert byheart("eval", benchmark_folder, "--mode", "vector", "--run", run).code == 0
        assert set(read_run(run)) == {name for name, *_ in QUERIES}
        assert run.read_text().splitlines()[0].split()[-1] == "byheart-vector"

    def test_comparing_with_a_run_adds_the_differences(
        self, byheart: Call, benchmark_folder: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run.trec"
        text = byheart("eval", benchmark_folder, "--mode", "text", "--run", run, "--json").json
        vector = ("eval", benchmark_folder, "--mode", "vector")
        figures = byheart(*vector, "--compare", run, "--json").json
        assert figures["compare"].keys() == METRICS
        gain = figures["memory"]["mrr"]["mean"] - text["memory"]["mrr"]["mean"]
        assert figures["compare"]["mrr"]["mean"] == pytest.approx(gain)
        assert "difference" in byheart(*vector, "--compare", run).out

    def test_a_run_compared_with_itself_shows_no_difference(
        self, byheart: Call, benchmark_folder: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run.trec"
        byheart("eval", benchmark_folder, "--run", run)
        outcome = byheart("eval", benchmark_folder, "--compare", run, "--json")
        assert {found["mean"] for found in outcome.json["compare"].values()} == {0}


class TestTable:
    def test_the_columns_are_aligned(self, byheart: Call, benchmark_folder: Path) -> None:
        title, header, *rows = byheart("eval", benchmark_folder).out.splitlines()
        table = rows[:5]
        assert title.startswith("benchmark queries, hybrid recall, ")
        assert header.split() == [
            *("queries", "ndcg@10", "recall@1", "recall@5", "recall@10", "mrr", "hit@5")
        ]
        assert [row[:10].strip() for row in table[:2]] == ["by memory", "by session"]
        assert len({len(row.rstrip()) for row in [header, *table[:2]]}) == 1
        assert {row[header.index("queries") + 6] for row in table} == {"8", "4", "1", "2"}

    def test_intervals_latency_and_false_positives_follow(
        self, byheart: Call, benchmark_folder: Path
    ) -> None:
        out = byheart("eval", benchmark_folder).out
        assert "±" in out
        assert " ms (p50), " in out
        assert "of 1 query that nothing answers, " in out

    def test_it_stays_within_its_width(self, byheart: Call, benchmark_folder: Path) -> None:
        assert max(map(len, byheart("eval", benchmark_folder).out.splitlines())) <= 120


class TestOwnStore:
    def test_without_a_path_the_own_store_is_asked(self, byheart: Call, tmp_path: Path) -> None:
        home = ("--home", tmp_path / "own")
        for *_, text in MEMORIES[:4]:
            byheart("remember", text, *home)
        figures = byheart("eval", *home, "--json").json
        assert figures["asked"] == "known-item"
        assert figures.keys() >= CONTRACT
        assert byheart("eval", *home).out.startswith("known-item queries, ")

    def test_an_empty_store_says_what_to_do(self, byheart: Call, tmp_path: Path) -> None:
        outcome = byheart("eval", "--home", tmp_path / "own", "--json")
        assert (outcome.code, outcome.out) == (2, "")
        assert "remember something first, or give a benchmark: byheart eval PATH" in outcome.err


WORDS = replace(DEFAULT_TUNING, fusion=replace(DEFAULT_TUNING.fusion, vector=0.0))
VECTORS = replace(DEFAULT_TUNING, fusion=replace(DEFAULT_TUNING.fusion, vector=1.0))


def bring(model: str, tuning: Tuning) -> None:
    """Put a tuning into the folder of a model."""
    declare(Path(model), tuning=tuning.as_dict())


class TestModel:
    @pytest.fixture
    def at(self, home: Path) -> tuple[str, Path]:
        return ("--home", home)

    @pytest.fixture
    def found(
        self, byheart: Call, benchmark_folder: Path, tmp_path: Path, at: tuple[str, Path]
    ) -> Callable[..., object]:
        """Evaluates with these options and reads the run that came of it."""

        def run_of(*options: str) -> object:
            path = tmp_path / "run.trec"
            assert byheart("eval", benchmark_folder, *at, *options, "--run", path).code == 0
            return read_run(path)

        return run_of

    def test_a_folder_is_asked_with_the_tuning_that_it_brings(
        self,
        byheart: Call,
        benchmark_folder: Path,
        found: Callable[..., object],
        other_model: str,
        at: tuple[str, Path],
    ) -> None:
        plain = found("--model", other_model)
        bring(other_model, WORDS)
        by_words = found("--model", other_model)
        bring(other_model, VECTORS)
        by_vectors = found("--model", other_model)
        bring(other_model, WORDS)
        assert found("--model", other_model) == by_words
        assert plain != by_words != by_vectors != plain
        figures = byheart("eval", benchmark_folder, "--model", other_model, *at, "--json").json
        assert (figures["model"], figures["fitted"]) == (other_model, True)

    def test_it_is_what_the_store_serves_after_a_switch(
        self,
        byheart: Call,
        benchmark_folder: Path,
        found: Callable[..., object],
        other_model: str,
        at: tuple[str, Path],
    ) -> None:
        bring(other_model, VECTORS)
        before = found("--model", other_model)
        assert byheart("reindex", "--model", other_model, *at).code == 0
        assert found() == before
        assert byheart("eval", benchmark_folder, *at, "--json").json["model"] == other_model

    def test_what_is_fitted_for_another_model_is_not_taken_for_it(
        self, byheart: Call, benchmark_folder: Path, other_model: str, at: tuple[str, Path]
    ) -> None:
        bring(other_model, VECTORS)
        byheart("reindex", "--model", other_model, *at)
        embedded = ("eval", benchmark_folder, "--model", "all-MiniLM-L6-v2", *at)
        assert byheart(*embedded, "--json").json["fitted"] is False

    async def test_the_own_store_is_asked_with_a_model_that_was_prepared(
        self, byheart: Call, other_model: str, home: Path, at: tuple[str, Path]
    ) -> None:
        bring(other_model, VECTORS)
        async with await MemoryStore.open(home) as store:
            await store.remember_many([NewMemory(text=text) for *_, text in MEMORIES])
            await store.prepare(other_model)
        figures = await asyncio.to_thread(byheart, "eval", "--model", other_model, *at, "--json")
        assert (figures.json["model"], figures.json["fitted"]) == (other_model, True)
        async with await MemoryStore.open(home) as store:
            assert (await store.stats()).model == "all-MiniLM-L6-v2"

    def test_of_another_one_it_says_how_it_can_be_asked(
        self, byheart: Call, other_model: str, at: tuple[str, Path]
    ) -> None:
        byheart("remember", MEMORIES[0][-1], *at)
        outcome = byheart("eval", "--model", other_model, *at)
        assert (outcome.code, outcome.out) == (1, "")
        assert f"byheart reindex --model {other_model}" in outcome.err


class TestErrors:
    def refused(self, byheart: Call, *arguments: str | Path) -> str:
        outcome = byheart("eval", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("byheart: ")
        assert outcome.err.count("\n") == 1
        return outcome.err

    def test_a_folder_that_is_no_benchmark(self, byheart: Call, tmp_path: Path) -> None:
        assert f"{tmp_path}: holds none of qrels.tsv" in self.refused(byheart, tmp_path)

    @pytest.mark.parametrize("name", ["locomo", "longmemeval", "beir"])
    def test_a_path_that_is_not_there(self, byheart: Call, tmp_path: Path, name: str) -> None:
        path = tmp_path / "absent"
        assert str(path) in self.refused(byheart, path, "--format", name)

    def test_a_file_of_an_unnamed_format(self, byheart: Call, locomo: Path) -> None:
        assert "--format: say whether" in self.refused(byheart, locomo)

    def test_a_format_that_does_not_exist(self, byheart: Call, benchmark_folder: Path) -> None:
        assert "'csv' is not one of" in self.refused(byheart, benchmark_folder, "--format", "csv")

    def test_a_file_of_another_format(self, byheart: Call, locomo: Path) -> None:
        error = self.refused(byheart, locomo, "--format", "longmemeval")
        assert "locomo.json: question 1: question_id: is missing" in error

    def test_a_file_that_is_no_json(self, byheart: Call, tmp_path: Path) -> None:
        path = tmp_path / "broken.json"
        path.write_text("{")
        assert "broken.json: is not JSON" in self.refused(byheart, path, "--format", "locomo")

    def test_a_namespace_that_is_not_there(self, byheart: Call, benchmark_folder: Path) -> None:
        error = self.refused(byheart, benchmark_folder, "--namespace", "attic")
        assert "attic is not in the dataset; it has boat, kitchen" in error

    def test_a_run_that_is_none(self, byheart: Call, benchmark_folder: Path) -> None:
        error = self.refused(byheart, benchmark_folder, "--compare", benchmark_folder / "qrels.tsv")
        assert "qrels.tsv:1: is no line of a TREC run" in error

    def test_a_run_of_another_benchmark(
        self, byheart: Call, benchmark_folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "run.trec").write_text("other Q0 m1 1 1 x\n")
        error = self.refused(byheart, benchmark_folder, "--compare", tmp_path / "run.trec")
        assert "answers none of these queries" in error

    def test_a_limit_out_of_range(self, byheart: Call, benchmark_folder: Path) -> None:
        assert "limit: 0 must be from 1" in self.refused(byheart, benchmark_folder, "--limit", "0")


def test_it_runs_as_a_process_of_its_own(benchmark_folder: Path, shared_home: Path) -> None:
    command = [sys.executable, "-m", "byheart_server", "eval", str(benchmark_folder), "--json"]
    environment = os.environ | {"BYHEART_HOME": str(shared_home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout).keys() >= CONTRACT
