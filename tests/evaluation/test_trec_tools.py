"""The tools of the trade read our run and qrels files and get the figures that we get."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from byheart_retrain.benchmarks import read_run, write_qrels, write_run
from byheart_retrain.evaluation.metrics import METRICS, measured
from byheart_store import InvalidInput

from ..conftest import examples

IR_MEASURES = {
    "ndcg@10": "nDCG@10",
    "recall@1": "R@1",
    "recall@3": "R@3",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "mrr": "RR",
    "hit@5": "Success@5",
}
TREC_EVAL = {
    "ndcg@10": "ndcg_cut_10",
    "recall@1": "recall_1",
    "recall@3": "recall_3",
    "recall@5": "recall_5",
    "recall@10": "recall_10",
    "mrr": "recip_rank",
    "hit@5": "success_5",
}


@dataclass(frozen=True, slots=True)
class Files:
    """Rankings with their gold, as they are and as files."""

    rankings: dict[str, list[str]]
    gold: dict[str, set[str]]
    run: Path
    qrels: Path

    def ours(self) -> Iterator[tuple[str, dict[str, float]]]:
        values = measured(list(self.rankings.values()), [self.gold[name] for name in self.rankings])
        for name, row in zip(self.rankings, values, strict=True):
            yield name, dict(zip(METRICS, row.tolist(), strict=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    draw, folder = random.Random(7), tmp_path_factory.mktemp("trec")
    memories = [f"memory-{number}" for number in range(60)]
    rankings = {f"q{number}": draw.sample(memories, 20) for number in range(40)}
    gold = {name: set(draw.sample(memories, draw.randint(1, 14))) for name in rankings}
    write_run(folder / "run.trec", rankings, "byheart")
    write_qrels(folder / "qrels.trec", gold)
    return Files(rankings, gold, folder / "run.trec", folder / "qrels.trec")


@pytest.mark.parametrize("name", METRICS)
def test_ir_measures_agrees_query_by_query(files: Files, name: str) -> None:
    measure = ir_measures.parse_measure(IR_MEASURES[name])
    qrels = list(ir_measures.read_trec_qrels(str(files.qrels)))
    run = list(ir_measures.read_trec_run(str(files.run)))
    theirs = {row.query_id: row.value for row in ir_measures.iter_calc([measure], qrels, run)}
    assert theirs == pytest.approx({query: values[name] for query, values in files.ours()})


@pytest.mark.parametrize("name", METRICS)
def test_trec_eval_agrees_query_by_query(files: Files, name: str) -> None:
    with files.run.open() as run, files.qrels.open() as qrels:
        rankings, judged = pytrec_eval.parse_run(run), pytrec_eval.parse_qrel(qrels)
    wanted = {"ndcg_cut.10", "recall.1,3,5,10", "recip_rank", "success.5"}
    theirs = pytrec_eval.RelevanceEvaluator(judged, wanted).evaluate(rankings)
    ours = {query: values[name] for query, values in files.ours()}
    assert {query: row[TREC_EVAL[name]] for query, row in theirs.items()} == pytest.approx(ours)


def test_a_query_that_found_nothing_counts_0_there_as_here(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"q1": ["a"], "q2": []}, "byheart")
    write_qrels(tmp_path / "qrels", {"q1": {"a"}, "q2": {"a"}})
    run = ir_measures.read_trec_run(str(tmp_path / "run"))
    qrels = ir_measures.read_trec_qrels(str(tmp_path / "qrels"))
    measure = ir_measures.parse_measure("nDCG@10")
    assert ir_measures.calc_aggregate([measure], qrels, run)[measure] == 0.5


def test_ids_with_spaces_survive_in_both_files(tmp_path: Path) -> None:
    rankings = {"a question": ["my note", "50% off", "%41", "tab\there"]}
    write_run(tmp_path / "run", rankings, "byheart")
    write_qrels(tmp_path / "qrels", {"a question": {"my note"}})
    assert read_run(tmp_path / "run") == rankings
    run = ir_measures.read_trec_run(str(tmp_path / "run"))
    qrels = ir_measures.read_trec_qrels(str(tmp_path / "qrels"))
    measure = ir_measures.parse_measure("Success@1")
    assert ir_measures.calc_aggregate([measure], qrels, run)[measure] == 1


names = st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable() or name.isspace())


@examples(60)
@given(st.dictionaries(names, st.lists(names, unique=True, min_size=1, max_size=5), max_size=4))
def test_every_run_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rankings: dict[str, list[str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.trec"
    write_run(path, rankings, "byheart")
    assert read_run(path) == rankings


def test_a_run_of_others_is_read_by_score_then_rank(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q Q0 c 1 0.1 x\nq Q0 a 3 0.9 x\nq\tQ0\tb\t2\t0.9\tx\n")
    assert read_run(path) == {"q": ["b", "a", "c"]}


def test_a_memory_that_a_run_names_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q Q0 a 1 3 x\nq Q0 a 2 2 x\nq Q0 b 3 1 x\n")
    assert read_run(path) == {"q": ["a", "b"]}


@pytest.mark.parametrize("line", ["q Q0 a 1 0.5", "q Q0 a first 0.5 x", "q Q0 a 1 high x", "{}"])
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run"
    path.write_text(f"q Q0 a 1 0.5 x\n{line}\n")
    with pytest.raises(InvalidInput, match=r"run:2: is no line of a TREC run; write: query Q0"):
        read_run(path)


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.trec: can't be read"):
        read_run(tmp_path / "absent.trec")
