"""Files of memories: what is read, what is refused and where, and that nothing is lost."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byheart_store import InvalidInput, Memory, NewMemory
from byheart_store.interchange import (
    STANDARD_INPUT,
    content,
    json_objects,
    read,
    read_beir,
    read_jsonl,
    replacing,
    source,
    write_jsonl,
)
from byheart_store.interchange.source import LARGEST_FILE, LONGEST_LINE

from ..conftest import examples

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
@examples(150)
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


def test_a_compressed_bomb_of_many_short_lines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "HARMLESS_SIZE", 2**12)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 30_000))
    read = json_objects(path)
    assert refusal(path).startswith(f"{path}: unfolds to more than 200 times its size")
    assert list(islice(read, 200))  # what is harmless is read until then


def test_a_file_of_absurd_size_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as sparse:
        sparse.truncate(LARGEST_FILE + 1)
    assert refusal(path) == f"{path}: has more than 16,384 MB; give it in smaller parts"


def test_a_line_of_nothing_but_nul_is_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\0" * 1_000)
    assert refusal(path).startswith(f"{path}:1: is not JSON")


def pipe_without_writer(path: Path) -> None:
    os.mkfifo(path)


def nobody_listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "make",
    [pipe_without_writer, nobody_listening, lambda path: path.symlink_to("/dev/zero")],
    ids=["pipe", "socket", "device"],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    make(Path("a.jsonl"))
    assert refusal(Path("a.jsonl")).startswith("a.jsonl: ")
    with pytest.raises(InvalidInput, match=r"a\.jsonl: "):
        content(Path("a.jsonl"), most=10)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_named_file_may_be_a_link_but_none_leads_out_of_a_folder(tmp_path: Path) -> None:
    secret = lines(tmp_path / "secret.jsonl", {"text": "for no one else"})
    link, folder = tmp_path / "link.jsonl", tmp_path / "folder"
    link.symlink_to(secret)
    folder.mkdir()
    (folder / "corpus.jsonl").symlink_to(secret)
    assert [new.text for new in read_jsonl(link)] == ["for no one else"]
    with pytest.raises(InvalidInput, match=r"leads out of the folder.*put the file itself there"):
        list(read_beir(folder))


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_a_folder_and_one_within_it_are_read(tmp_path: Path) -> None:
    lines(beir(tmp_path) / "real.jsonl", {"_id": "a", "text": "x"})
    (tmp_path / "corpus.jsonl").unlink()
    (tmp_path / "corpus.jsonl").symlink_to("real.jsonl")
    (tmp_path / "alias").symlink_to(tmp_path)
    assert [new.id for new in read_beir(tmp_path / "alias")] == ["a"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a", "turn": %s}' % ("9" * 5_000), "is not JSON"),
        ('{"text": "a", "turn": %s}' % ("9" * 30), "turn: 9999"),
        ('{"text": "a", "session": %s}' % ("9" * 1_000), "session: has 1,000 characters"),
        ('{"text": "a", "session": 1e999}', "session: must be a text, not a number"),
        ('{"text": "a", "metadata": {"b": 1e999}}', "metadata: is no JSON object"),
        ('{"text": "a", "metadata": ' + '{"b":' * 300 + "1" + "}" * 301, "metadata: is nested"),
        ('{"text": "a", "metadata": {"b": %s}}' % ("[" * 900 + "]" * 900), "metadata: is nested"),
    ],
)
def test_absurd_numbers_and_depths_are_refused(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line)
    assert refusal(path).startswith(f"{path}:1: {problem}")
    assert len(refusal(path)) < 1_000


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
