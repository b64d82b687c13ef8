"""Files of memories: what is read, what is refused and where, and that nothing is lost."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byheart_store import InvalidInput, Memory, NewMemory
from byheart_store.interchange import (
    LONGEST_LINE,
    STANDARD_INPUT,
    read,
    read_beir,
    read_jsonl,
    replacing,
    write_jsonl,
)

FIELDS = [field for field in Memory.__slots__ if field != "metadata"]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def beir(folder: Path, *rows: Any) -> Path:
    lines(folder / "corpus.jsonl", *rows)
    return folder


def written(memories: Iterable[Memory]) -> bytes:
    async def each() -> AsyncIterator[Memory]:
        for memory in memories:
            yield memory

    out = io.BytesIO()
    asyncio.run(write_jsonl(each(), out.write))
    return out.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        list(read_jsonl(path))
    return str(caught.value)


# What the store can hold: no lone surrogates, names that are not blank.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
names = texts.filter(lambda name: len(name) <= 200)
moments = st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC))
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
memories = st.builds(
    Memory,
    id=names,
    text=texts,
    namespace=names,
    session=st.none() | names,
    turn=st.none() | st.integers(0, 2**31 - 1),
    speaker=st.none() | names,
    at=st.none() | moments,
    tags=st.lists(names, max_size=4, unique=True).map(tuple),
    source=st.none() | names,
    metadata=st.dictionaries(names, values, max_size=4),
    created=moments,
    replaces=st.none() | names,
    replaced_by=st.none() | names,
    replaced_at=st.none() | moments,
    client=st.none() | names,
    token=st.none() | names,
).filter(lambda memory: memory.id not in (memory.replaces, memory.replaced_by))


@given(st.lists(memories, max_size=4))
@settings(max_examples=150, deadline=None)
def test_an_export_is_read_back_without_loss(
    tmp_path_factory: pytest.TempPathFactory, stored: list[Memory]
) -> None:
    path = tmp_path_factory.mktemp("round") / "memories.jsonl"
    path.write_bytes(written(stored))

    back = list(read_jsonl(path))

    assert [[getattr(new, name) for name in FIELDS] for new in back] == [
        [getattr(memory, name) for name in FIELDS] for memory in stored
    ]
    assert [dict(new.metadata) for new in back] == [dict(memory.metadata) for memory in stored]


def test_a_line_made_by_hand_needs_only_text(tmp_path: Path) -> None:
    assert list(read_jsonl(lines(tmp_path / "a.jsonl", {"text": "Hi"}))) == [NewMemory(text="Hi")]


def test_blank_lines_and_a_byte_order_mark_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\n\n   \n{"text": "two"}')
    assert [new.text for new in read_jsonl(path)] == ["one", "two"]


def test_gzip_is_recognised_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n'))
    assert [new.text for new in read_jsonl(path)] == ["one"]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = io.BufferedReader(io.BytesIO(b'{"text": "one"}\n'))  # type: ignore[type-var]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(wire))
    assert [new.text for new in read_jsonl(STANDARD_INPUT)] == ["one"]


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\nbroken\n')
    assert next(read_jsonl(path)).text == "one"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("{}", "text: is empty"),
        ('{"text": 5}', "text: must be a text, not a number"),
        ('{"text": "a", "speeker": "b"}', "'speeker' is no field of a memory"),
        ('{"text": "a", "at": "soon"}', "at: 'soon' is no date"),
        ('{"text": "a", "at": 5}', "at: must be a text like"),
        ('{"text": "a", "tags": "b"}', "tags: must be a list of texts"),
        ('{"text": "a", "turn": true}', "turn: must be a whole number"),
        ('{"text": "a", "turn": -1}', "turn: -1 must be a whole number"),
        ('{"text": "a", "session": ["b"]}', "session: must be a text, not a list"),
        ('{"text": "a", "metadata": "b"}', "metadata: must be an object, not a text"),
        ('{"text": "a", "metadata": {"b": NaN}}', "metadata: is no JSON object"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_broken_line_is_named_with_file_and_number(
    tmp_path: Path, line: str, problem: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good"}}\n{line}\n')
    assert refusal(path).startswith(f"{path}:2: {problem}")


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "Müller"}\n'.encode("latin-1"))
    assert refusal(path) == f"{path}:1: is not UTF-8; save the file as UTF-8"


def test_a_compressed_bomb_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as bomb:
        for _ in range(LONGEST_LINE // 2**20 + 1):
            bomb.write(b" " * 2**20)
    assert refusal(path).startswith(f"{path}:1: is longer than 16 MB")


@pytest.mark.parametrize("cut", [3, 20])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "one"}\n' * 99)[:cut])
    assert "the compressed file is damaged" in refusal(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.jsonl").startswith(f"{tmp_path / 'none.jsonl'}: no such file")


def test_a_folder_is_no_jsonl_file(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: is a folder")


def test_a_folder_without_corpus_is_no_beir_dataset(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"holds no corpus\.jsonl"):
        list(read_beir(tmp_path))


def test_beir_metadata_fills_the_fields_and_keeps_the_rest(tmp_path: Path) -> None:
    about = {
        "namespace": "n",
        "session": 3,
        "turn": 7,
        "speaker": "Ada",
        "time": "2024-05-01T10:00:00",
        "tags": ["t"],
        "mood": {"calm": True},
    }
    folder = beir(tmp_path, {"_id": "m1", "title": "On", "text": "Hi", "metadata": about})
    assert list(read_beir(folder)) == [
        NewMemory(
            id="m1",
            text="On\nHi",
            namespace="n",
            session="3",
            turn=7,
            speaker="Ada",
            at=datetime(2024, 5, 1, 10, tzinfo=UTC),
            tags=("t",),
            metadata={"mood": {"calm": True}},
        )
    ]


def test_beir_without_metadata_or_time_is_read(tmp_path: Path) -> None:
    rows = [{"_id": "a", "text": "x"}, {"_id": "b", "text": "y", "metadata": {"time": None}}]
    assert [(new.id, new.at, dict(new.metadata)) for new in read_beir(beir(tmp_path, *rows))] == [
        ("a", None, {}),
        ("b", None, {}),
    ]


def test_the_compressed_corpus_is_found(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "x"}\n'))
    assert [new.id for new in read_beir(tmp_path)] == ["a"]


def test_a_given_namespace_overrides_that_of_the_file(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "x", "namespace": "old"}, {"text": "y"})
    assert [new.namespace for new in read(path, "jsonl", "new")] == ["new", "new"]


def test_lone_surrogates_become_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a \\ud800 b"}\n')
    assert [new.text for new in read_jsonl(path)] == ["a \ufffd b"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as write:
            write(b"new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_in_gz_is_written_compressed(tmp_path: Path) -> None:
    with replacing(tmp_path / "out.jsonl.gz") as write:
        write(b"new")
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == b"new"
