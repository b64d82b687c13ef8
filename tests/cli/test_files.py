"""import and export: nothing is lost, nothing is stored twice, nothing is half done."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pytest

from ..conftest import Call


def corpus(folder: Path, count: int) -> Path:
    rows = [
        {
            "_id": f"m{number}",
            "text": f"Entry {number} of the logbook",
            "metadata": {"namespace": f"n{number % 2}", "session": "s", "turn": number},
        }
        for number in range(count)
    ]
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_beir_folder_is_imported_into_its_namespaces(byheart: Call, tmp_path: Path) -> None:
    outcome = byheart("import", str(corpus(tmp_path / "d", 5)), "--format", "beir", "--json")
    assert outcome.code == 0
    assert outcome.json["stored"] == 5
    assert outcome.json["namespaces"] == {"n0": 3, "n1": 2}
    hits = byheart("recall", "logbook entry", "--namespace", "n1", "--json").json["hits"]
    assert {hit["id"] for hit in hits} == {"m1", "m3"}


def test_importing_again_is_harmless(byheart: Call, tmp_path: Path) -> None:
    path = str(corpus(tmp_path / "d", 5))
    byheart("import", path)
    again = byheart("import", path)
    assert again.out.startswith("stored 0 memories, 5 duplicates already there")
    assert byheart("stats", "--json").json["memories"] == 5


def test_a_namespace_can_be_given(byheart: Call, tmp_path: Path) -> None:
    path = str(corpus(tmp_path / "d", 3))
    assert byheart("import", path, "--namespace", "x", "--json").json["namespaces"] == {"x": 3}


LOCOMO = {
    "sample_id": "conv-7",
    "conversation": {
        "speaker_a": "Signe",
        "speaker_b": "Otto",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Signe", "dia_id": "D1:1", "text": "I took up glass blowing."},
            {"speaker": "Otto", "dia_id": "D1:2", "text": "Since when?"},
        ],
    },
    "qa": [{"question": "What craft?", "answer": "glass", "evidence": ["D1:1"], "category": 4}],
}
LONGMEMEVAL = {
    "question_id": "71ae20c1",
    "question_type": "single-session-user",
    "question": "Which tree of mine is in flower?",
    "answer": "The pear tree",
    "question_date": "2023/05/30 (Tue) 23:40",
    "haystack_dates": ["2023/05/20 (Sat) 02:21"],
    "haystack_session_ids": ["answer_5c2d_1"],
    "haystack_sessions": [
        [
            {"role": "user", "content": "The pear tree is in flower.", "has_answer": True},
            {"role": "assistant", "content": "How lovely!", "has_answer": False},
        ]
    ],
    "answer_session_ids": ["answer_5c2d_1"],
}


@pytest.mark.parametrize(
    ("file_format", "content", "namespace"),
    [("locomo", LOCOMO, "conv-7"), ("longmemeval", LONGMEMEVAL, "71ae20c1")],
)
def test_published_conversations_are_imported(
    byheart: Call, tmp_path: Path, file_format: str, content: object, namespace: str
) -> None:
    path = tmp_path / "published.json"
    path.write_text(json.dumps([content]))
    chosen = ["--format", file_format, "--json"]
    assert byheart("import", str(path), *chosen).json["namespaces"] == {namespace: 2}
    other = ["--namespace", "mine", "--home", str(tmp_path / "other")]
    assert byheart("import", str(path), *chosen, *other).json["namespaces"] == {"mine": 2}


@pytest.mark.parametrize("file_format", ["locomo", "longmemeval"])
def test_a_file_that_was_not_published_so_is_refused(
    byheart: Call, tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"text": "a memory"}')
    outcome = byheart("import", str(path), "--format", file_format)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith(f"byheart: {path}: ")


def test_a_broken_line_at_the_end_leaves_the_store_as_it_was(byheart: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n' * 3 + '{"text": 5}\n')
    outcome = byheart("import", str(path))
    assert outcome.code == 2
    assert outcome.err == f"byheart: {path}:4: text: must be a text, not a number\n"
    assert byheart("stats", "--json").json["memories"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("file_format", ["jsonl", "beir", "locomo", "longmemeval"])
def test_a_file_that_would_hang_or_fill_memory_is_refused(
    byheart: Call, tmp_path: Path, file_format: str
) -> None:
    pipe, bomb = tmp_path / "pipe", tmp_path / "bomb.gz"
    os.mkfifo(pipe)
    with gzip.open(bomb, "wb") as packed:
        for _ in range(40):
            packed.write(b" " * 2**20)
    for path in (pipe, bomb):
        outcome = byheart("import", str(path), "--format", file_format)
        assert outcome.code == 2
        assert outcome.err.startswith(f"byheart: {path}")
        assert outcome.err.count("\n") == 1
    assert byheart("stats", "--json").json["memories"] == 0


def test_a_pipe_that_breaks_says_how_far_it_came(byheart: Call) -> None:
    rows = "".join(f'{{"text": "row {number}"}}\n' for number in range(300))
    outcome = byheart("import", "-", stdin=rows + "broken\n")
    assert outcome.code == 1
    assert outcome.err.startswith("byheart: standard input:301: is not JSON")
    assert "the first 256 memories are stored" in outcome.err


def test_an_export_is_imported_without_loss(byheart: Call, tmp_path: Path) -> None:
    old = byheart("remember", "The vet is Dr. Keller.", "--at", "2025-03-09", "--json").json["id"]
    byheart("remember", "The vet is Dr. Nowak.", "--replaces", old, "--source", "phone call")
    byheart("remember", "a\u2028b\n\ttab", "--session", "s/1", "--speaker", "Ada", "--tag", "x")
    byheart("remember", "With more", "--metadata", '{"deep": {"list": [1, 2.5, null, "\u00fc"]}}')
    first, other = tmp_path / "first.jsonl", str(tmp_path / "other")

    assert byheart("export", "--output", str(first)).out == f"wrote 4 memories to {first}\n"
    imported = byheart("import", str(first), "--home", other, "--json")
    second = byheart("export", "--home", other)

    assert imported.code == 0, imported.err
    assert second.out.encode() == first.read_bytes()
    known = byheart("recall", "vet", "--json", "--home", other).json["hits"]
    assert "The vet is Dr. Keller." not in [hit["text"] for hit in known]


def test_an_export_can_be_narrowed_and_compressed(byheart: Call, tmp_path: Path) -> None:
    byheart("remember", "One.", "--namespace", "a")
    byheart("remember", "Two.", "--namespace", "b")
    path = tmp_path / "out.jsonl.gz"
    outcome = byheart("export", "--output", str(path), "--namespace", "b", "--json")
    assert outcome.json == {"memories": 1, "output": str(path)}
    assert json.loads(gzip.decompress(path.read_bytes()))["text"] == "Two."


def test_an_export_into_a_missing_folder_is_one_line(byheart: Call, tmp_path: Path) -> None:
    outcome = byheart("export", "--output", str(tmp_path / "none" / "out.jsonl"))
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert str(tmp_path / "none") in outcome.err
