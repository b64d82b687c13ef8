"""`byheart doctor`, `backup` and `restore` as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import Call


@pytest.fixture
def filled(byheart: Call) -> Call:
    for text in ("Judith is vegetarian.", "Biscuit's vet is Dr. Keller."):
        assert byheart("remember", text).code == 0
    return byheart


def damage(home: Path) -> None:
    manifest = min((home / "db" / "memories.lance" / "_versions").glob("*.manifest"))
    manifest.write_bytes(b"")


def test_doctor_finds_and_mends(filled: Call, home: Path) -> None:
    assert filled("doctor").out == "healthy: 2 memories\n"
    damage(home)
    found = filled("doctor")
    assert found.code == 1
    assert "manifest  found" in found.out
    assert found.out.endswith("1 finding left; to mend: byheart doctor --repair\n")
    mended = filled("doctor", "--repair")
    assert (mended.code, mended.out.splitlines()[-1]) == (0, "all mended: 2 memories")
    assert filled("doctor", "--thorough").code == 0


def test_findings_line_up(filled: Call, home: Path) -> None:
    damage(home)
    (home / "db" / "recalls.lance" / "data").mkdir(exist_ok=True)
    (home / "db" / "recalls.lance" / "data" / "01.lance").write_bytes(b"?")
    lines = filled("doctor").out.splitlines()[:-1]
    assert len({line.index("found") for line in lines}) == 1
    assert [line.split()[:3] for line in lines] == [
        ["memories", "manifest", "found"],
        ["recalls", "orphan", "found"],
    ]


def test_doctor_prints_one_json_object(filled: Call, home: Path) -> None:
    damage(home)
    found = filled("doctor", "--json")
    assert found.json["healthy"] is False
    assert [finding["kind"] for finding in found.json["findings"]] == ["manifest"]
    assert filled("doctor", "--repair", "--json").json["memories"] == 2


def test_backup_and_restore(filled: Call, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "backup.tgz"
    assert filled("backup", path).out.startswith("wrote 2 memories in")
    assert filled("remember", "Lena moved to Bremen.").code == 0
    refused = filled("restore", path)
    assert (refused.code, "--replace" in refused.err) == (2, True)
    restored = filled("restore", path, "--replace")
    assert (restored.code, restored.out.startswith("restored 2 memories")) == (0, True)
    assert "the former store is kept in" in restored.out
    assert filled("stats", "--json").json["memories"] == 2
    assert filled("restore", path, "--home", tmp_path / "new", "--json").json["memories"] == 2


def test_a_store_elsewhere_is_looked_after_there(byheart: Call, tmp_path: Path) -> None:
    for command in (["doctor"], ["backup", "f"], ["restore", "f"]):
        refused = byheart(*command, "--uri", "s3://bucket/db")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "byheart export" in byheart("backup", "f", "--uri", "s3://bucket/db").err
