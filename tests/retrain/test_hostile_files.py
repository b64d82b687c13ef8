"""Benchmarks and labels from strangers: what would hang, fill memory or lead astray is refused."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byheart_retrain.benchmarks import Format, load
from byheart_retrain.benchmarks.loading import LARGEST_JSON
from byheart_retrain.labels import read_labels
from byheart_retrain.queries.readers import LARGEST_TABLE
from byheart_store import InvalidInput
from byheart_store.interchange import source

LABEL = {"query": "Who?", "positives": ["a"]}
Reader = Callable[[Path], object]


def conversation(**wrong: Any) -> dict[str, Any]:
    turn = {"speaker": "Signe", "dia_id": "D1:1", "text": "Glass blowing."}
    asked = {"question": "What craft?", "evidence": ["D1:1"], "category": 4}
    talk = {"session_1": [turn | wrong.pop("turn", {})], **wrong.pop("talk", {})}
    return {"sample_id": "c", "conversation": talk, "qa": [asked | wrong.pop("asked", {})]}


def beir(folder: Path) -> Path:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "x"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "Who?"}\n')
    (folder / "qrels.tsv").write_text("q\ta\t1\n")
    return folder


def refusal(read: Reader, path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(path)
    return str(caught.value)


def published(file_format: Format) -> Reader:
    return lambda path: load(path, file_format)


@pytest.mark.parametrize(
    ("read", "most"),
    [
        (published("locomo"), LARGEST_JSON),
        (published("longmemeval"), LARGEST_JSON),
        (read_labels, LARGEST_TABLE),
    ],
)
def test_a_file_that_would_fill_memory_is_refused_unread(
    tmp_path: Path, read: Reader, most: int
) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as sparse:
        sparse.truncate(most + 1)
    assert (
        refusal(read, path)
        == f"{path}: has more than {most // 2**20:,} MB; give it in smaller parts"
    )


@pytest.mark.parametrize("read", [published("locomo"), published("longmemeval"), read_labels])
def test_a_compressed_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Reader
) -> None:
    monkeypatch.setattr(source, "HARMLESS_SIZE", 2**12)
    path = tmp_path / "bomb.json"
    path.write_bytes(gzip.compress(json.dumps(LABEL).encode() * 200_000))
    assert "unfolds to more than 200 times its size" in refusal(read, path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.timeout(10)
@pytest.mark.parametrize("read", [published("locomo"), published("longmemeval"), read_labels])
def test_a_pipe_does_not_hang(tmp_path: Path, read: Reader) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert "is no file but a pipe or a device" in refusal(read, path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
@pytest.mark.parametrize("read", [published("beir"), read_labels])
def test_no_file_of_a_folder_leads_out_of_it(tmp_path: Path, read: Reader, name: str) -> None:
    folder = beir(tmp_path / "dataset")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert "leads out of the folder" in refusal(read, folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"talk": {f"session_{'9' * 5_000}": []}},
        {"turn": {"blip_caption": {"a": 1}}},
        {"turn": {"text": 5}},
        {"talk": {"session_1_date_time": ["now"]}},
        {"talk": {"session_1_date_time": "9" * 400}},
        {"asked": {"evidence": {"a": 1}}},
    ],
)
def test_a_conversation_that_is_none_is_refused_or_read_over(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([conversation(**wrong)]))
    if "talk" in wrong and "session_1_date_time" not in wrong["talk"]:
        assert len(load(path, "locomo").memories) == 1
    else:
        assert len(refusal(published("locomo"), path)) < 1_000


@pytest.mark.parametrize("read", [published("locomo"), published("longmemeval"), read_labels])
@pytest.mark.parametrize(
    "raw", [b"[" * 100_000, b'{"a": ' * 100_000, b"9" * 5_000, b"\0" * 1_000, b"\xff\xfe\0{"]
)
def test_what_no_parser_survives_is_refused(tmp_path: Path, read: Reader, raw: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(raw)
    assert str(path) in refusal(read, path)
