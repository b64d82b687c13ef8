"""retrain: what it refuses before anything is trained, and what it says then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from byheart_server.commands import retrain

from ..conftest import Call, Outcome


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of what training needs is used here."""
    monkeypatch.setattr(retrain, "find_spec", lambda _: object())


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    rows = [{"query": f"When is lift {n} serviced?", "positives": [f"m{n}"]} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def filled(byheart: Call, tmp_path: Path) -> Call:
    path = tmp_path / "memories.jsonl"
    rows = [
        {"id": f"m{n}", "text": f"Lift {n} is serviced in May.", "namespace": "house"}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert byheart("import", path, "--format", "jsonl").code == 0
    return byheart


def refused(outcome: Outcome) -> str:
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("byheart: ")
    assert outcome.err.count("\n") == 1
    return outcome.err


def test_without_labels_it_says_how_they_come_about(filled: Call) -> None:
    error = refused(filled("retrain"))
    assert "feedback" in error
    assert "byheart label" in error
    assert "--labels FILE" in error


def test_too_few_labels_give_no_verdict_and_say_how_many_are_missing(
    filled: Call, labels: Path, home: Path
) -> None:
    outcome = filled("retrain", "--labels", labels)
    assert outcome.code == 2
    assert outcome.out.startswith("No verdict: ")
    assert "more are needed" in outcome.out
    assert "about 100 labelled queries in all" in outcome.out
    assert not (home / "models").exists() or not list((home / "models").glob("specialist-*"))


def test_json_tells_the_same(filled: Call, labels: Path) -> None:
    outcome = filled("retrain", "--labels", labels, "--json", "--promote")
    assert outcome.code == 2
    assert outcome.json.keys() == {"passed", "promoted", "reason", "model", "report"}
    assert (outcome.json["passed"], outcome.json["promoted"]) == (False, False)
    assert outcome.json["model"] is None


def test_a_label_of_no_namespace_belongs_where_its_answers_lie(filled: Call, labels: Path) -> None:
    assert "No verdict" in filled("retrain", "--labels", labels, "--namespace", "house").out
    error = refused(filled("retrain", "--labels", labels, "--namespace", "boat"))
    assert "nothing was found useful in boat" in error


def test_labels_of_other_memories_are_of_no_use(byheart: Call, labels: Path) -> None:
    byheart("remember", "The lift code is blue.")
    assert "byheart import" in refused(byheart("retrain", "--labels", labels))


def test_labels_that_are_not_there(filled: Call, tmp_path: Path) -> None:
    assert "absent.jsonl" in refused(filled("retrain", "--labels", tmp_path / "absent.jsonl"))


def test_queries_without_qrels(filled: Call, labels: Path) -> None:
    assert "--labels QRELS" in refused(filled("retrain", "--queries", labels))


def test_an_output_folder_in_use(filled: Call, labels: Path, tmp_path: Path) -> None:
    error = refused(filled("retrain", "--labels", labels, "--output", tmp_path))
    assert "is not empty" in error


@pytest.mark.parametrize(
    ("option", "value"), [("--min-gain", "2"), ("--tolerance", "-1"), ("--fewest", "0")]
)
def test_a_figure_out_of_range(filled: Call, option: str, value: str) -> None:
    assert option in refused(filled("retrain", option, value))


def test_what_is_not_installed_is_named(byheart: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain, "find_spec", lambda name: None if name == "torch" else object())
    outcome = byheart("retrain")
    assert outcome.code == 1
    assert "retrain needs torch; install them: pip install 'byheart[retrain]'" in outcome.err
