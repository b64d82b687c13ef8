"""Memories as files: readers that yield them lazily, and a writer that loses nothing.

`beir` is a folder with `corpus.jsonl` or `corpus.jsonl.gz`; `jsonl` holds one memory a line, as
`write_jsonl` writes it. A line made by hand needs nothing but `text`. Gzip is recognised by its
first bytes, whatever the file is called.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Literal

from byheart_store.errors import ByHeartError, InvalidInput
from byheart_store.records import DEFAULT_NAMESPACE, Memory, NewMemory, parse_time

if TYPE_CHECKING:
    from byheart_store import MemoryStore

Format = Literal["beir", "jsonl"]
Row = dict[str, Any]

STANDARD_INPUT = Path("-")
# A memory of the longest text, each character escaped, still fits; a compressed bomb does not.
LONGEST_LINE = 16 * 2**20
BATCH_MEMORIES = 256
BATCH_CHARACTERS = 2_000_000

_NAMES = (
    *("id", "key", "namespace", "session", "speaker", "source", "replaces", "replaced_by"),
    *("client", "token"),
)
_TIMES = ("at", "created", "replaced_at")
_FIELDS = frozenset(("text", "turn", "tags", "metadata", *_NAMES, *_TIMES))
_ABOUT = _FIELDS - {"id", "text", "metadata"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did; `namespaces` counts the memories read for each."""

    stored: int
    replaced: int
    duplicates: int
    seconds: float
    namespaces: Mapping[str, int]

    @property
    def read(self) -> int:
        """The number of memories read."""
        return self.stored + self.replaced + self.duplicates

    @property
    def per_second(self) -> float:
        """Memories read in a second."""
        return self.read / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {
            "stored": self.stored,
            "replaced": self.replaced,
            "duplicates": self.duplicates,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "namespaces": dict(self.namespaces),
        }


def read(path: Path, file_format: Format, namespace: str | None = None) -> Iterator[NewMemory]:
    """The memories of a file, read as they are asked for; `namespace` overrides their own.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    memories = read_beir(path) if file_format == "beir" else read_jsonl(path)
    if namespace is None:
        return memories
    return (replace(memory, namespace=namespace) for memory in memories)


def read_beir(path: Path) -> Iterator[NewMemory]:
    """The corpus of a BEIR folder; `metadata` that names no field stays metadata.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    return _read(_corpus(path), _from_beir)


def read_jsonl(path: Path) -> Iterator[NewMemory]:
    """The memories of a JSONL file, or of standard input when the path is `-`.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    return _read(path, _from_export)


def json_objects(path: Path) -> Iterator[Row]:
    """The JSON objects of a file, one a line, compressed or not.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    return (row for _, row in _rows(path))


async def write_jsonl(memories: AsyncIterable[Memory], write: Callable[[bytes], object]) -> int:
    """Write one JSON object a line, in UTF-8, and return how many."""
    count = 0
    async for memory in memories:
        write(json.dumps(memory.as_dict(), ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


@contextmanager
def replacing(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Yield a `write` whose bytes take the place of the file only once all are written.

    Bytes are compressed when the name ends in `.gz`.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        # A pipe or a device is written to, not replaced.
        with path.open("wb") as device:
            yield device.write
        return
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
        try:
            with _compressing(path, draft) as write:
                yield write
            draft.close()
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise


async def store_all(
    store: MemoryStore,
    memories: Iterable[NewMemory],
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Store memories in batches; what is stored already counts as a duplicate.

    `progress` is told how many memories are done.

    Raises:
        InvalidInput: the first batch holds what can't be read; nothing was stored.
        ByHeartError: a later one does, or a write failed; the message says how many are stored.
    """
    started = time.perf_counter()
    statuses: Counter[str] = Counter()
    namespaces: Counter[str] = Counter()
    try:
        for batch in _batches(memories):
            receipts = await store.remember_many(batch)
            statuses.update(receipt.status for receipt in receipts)
            namespaces.update(memory.namespace or DEFAULT_NAMESPACE for memory in batch)
            if progress is not None:
                progress(statuses.total())
    except ByHeartError as error:
        if not statuses:
            raise
        raise ByHeartError(
            f"{error} (the first {statuses.total():,} memories are stored; "
            "run the import again when it is mended: nothing is stored twice)"
        ) from error
    return Imported(
        stored=statuses["stored"],
        replaced=statuses["replaced"],
        duplicates=statuses["duplicate"],
        seconds=time.perf_counter() - started,
        namespaces=namespaces,
    )


def _batches(memories: Iterable[NewMemory]) -> Iterator[list[NewMemory]]:
    batch: list[NewMemory] = []
    characters = 0
    for memory in memories:
        batch.append(memory)
        characters += len(memory.text)
        if len(batch) == BATCH_MEMORIES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _corpus(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (path / name).is_file():
            return path / name
    raise InvalidInput(
        f"{path}: holds no corpus.jsonl or corpus.jsonl.gz; give the folder of a BEIR dataset"
    )


def _read(path: Path, parse: Callable[[Row], NewMemory]) -> Iterator[NewMemory]:
    for place, row in _rows(path):
        try:
            yield parse(row)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}") from None


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Each JSON object of a file, and the file and line where it stands."""
    for number, line in _lines(path):
        place = f"{_name(path)}:{number}"
        try:
            yield place, _row(line)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with _opened(path) as read_line:
            while line := read_line(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InvalidInput(
                        f"{_name(path)}:{number}: is longer than {LONGEST_LINE // 2**20} MB; "
                        "write one memory a line"
                    )
                if line.strip():
                    yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(
            f"{_name(path)}:{number + 1}: the compressed file is damaged ({error}); fetch it again"
        ) from None


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[int], bytes]]:
    with _raw(path) as raw:
        if raw.peek(2)[:2] != b"\x1f\x8b":
            yield raw.readline
            return
        with gzip.open(raw) as stream:
            yield stream.readline


@contextmanager
def _raw(path: Path) -> Iterator[Any]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file; give the path of an existing one") from None
    except IsADirectoryError:
        raise InvalidInput(
            f"{path}: is a folder; give a file, or --format beir for a BEIR dataset"
        ) from None
    with stream:
        yield stream


@contextmanager
def _compressing(path: Path, draft: IO[bytes]) -> Iterator[Callable[[bytes], object]]:
    if path.suffix != ".gz":
        yield draft.write
        return
    with gzip.GzipFile(filename="", fileobj=draft, mode="wb", mtime=0) as stream:
        yield stream.write


def _name(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else os.fspath(path)


def _row(line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidInput("is not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise InvalidInput('is not a JSON object; write {"text": "..."}')
    return row


def _from_beir(row: Row) -> NewMemory:
    about = _object(row, "metadata")
    fields = {name: value for name, value in about.items() if name in _ABOUT}
    kept = {name: value for name, value in about.items() if name not in _ABOUT}
    if "at" not in fields and "time" in kept:
        fields["at"] = kept.pop("time")
    title, text = _text(row, "title"), _text(row, "text")
    fields["id"] = row.get("_id")
    fields["text"] = "\n".join(part for part in (title, text) if part)
    return _memory(fields, kept)


def _from_export(row: Row) -> NewMemory:
    unknown = next((name for name in row if name not in _FIELDS), None)
    if unknown is not None:
        raise InvalidInput(
            f"{unknown[:60]!r} is no field of a memory; put it under metadata, "
            f"or use one of {', '.join(sorted(_FIELDS))}"
        )
    return _memory(row | {"text": _text(row, "text")}, _object(row, "metadata"))


def _memory(row: Row, metadata: Row) -> NewMemory:
    fields: dict[str, Any] = {name: _short(row, name) for name in _NAMES}
    fields |= {name: _time(row, name) for name in _TIMES}
    return NewMemory(
        text=row["text"], turn=_turn(row), tags=_tags(row), metadata=metadata, **fields
    )


def _text(row: Row, name: str) -> str:
    value = row.get(name) or ""
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: must be a text, not {_kind(value)}")
    return value


def _short(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    # Files made by hand number their sessions and ids.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidInput(f"{name}: must be a text, not {_kind(value)}")


def _time(row: Row, name: str) -> datetime | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: must be a text like 2026-03-14T09:30:00Z, not {_kind(value)}")
    return parse_time(value, name)


def _turn(row: Row) -> int | None:
    value = row.get("turn")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise InvalidInput(f"turn: must be a whole number, not {_kind(value)}")


def _tags(row: Row) -> tuple[str, ...]:
    value = row.get("tags")
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(value)
    raise InvalidInput("tags: must be a list of texts")


def _object(row: Row, name: str) -> Row:
    value = row.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{name}: must be an object, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a list" if isinstance(value, list) else "an object")
