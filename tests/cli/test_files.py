"""import and export: nothing is lost, nothing is stored twice, nothing is half done."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from .conftest import Call


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


def test_a_broken_line_at_the_end_leaves_the_store_as_it_was(byheart: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n' * 3 + '{"text": 5}\n')
    outcome = byheart("import", str(path))
    assert outcome.code == 2
    assert outcome.err == f"byheart: {path}:4: text: must be a text, not a number\n"
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
