"""Memories as files: readers that yield them lazily, and a writer that loses nothing.

`beir` is a folder with `corpus.jsonl` or `corpus.jsonl.gz`; `jsonl` holds one memory a line, as
`write_jsonl` writes it. A line made by hand needs nothing but `text`. Gzip is recognised by its
first bytes, whatever the file is called.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
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
from byheart_store.inputs import parse_time
from byheart_store.records import DEFAULT_NAMESPACE, Memory, NewMemory

if TYPE_CHECKING:
    from byheart_store.store import MemoryStore

Format = Literal["beir", "jsonl"]
Row = dict[str, Any]

STANDARD_INPUT = Path("-")
LONGEST_LINE = 16 * 2**20
"""Bytes: a memory of the longest text, each character escaped, still fits."""
LARGEST_FILE = 16 * 2**30
"""Bytes, unfolded: more memories than a store recalls from in a tolerable time."""
MOST_EXPANSION = 200
"""Text shrinks to a tenth by compression, a very repetitive log to a hundredth, a bomb further."""
HARMLESS_SIZE = 32 * 2**20
"""Bytes that any file may unfold to."""

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


def file_in(folder: Path, *names: str) -> Path | None:
    """The first of these files that a folder holds.

    Raises:
        InvalidInput: it is a link that leads out of the folder.
    """
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(
            f"{path}: is a link that leads out of the folder, to {path.resolve()}; "
            "put the file itself there"
        )
    return path


def content(path: Path, most: int) -> str:
    """The text of a file of at most `most` bytes, compressed or not.

    Raises:
        InvalidInput: it can't be read, is larger, or is not UTF-8; the message says which.
    """
    parts = []
    with _opened(path) as source:
        too_large = path.stat().st_size > most
        while not too_large and (part := source.read()):
            parts.append(part)
            too_large = source.unfolded > most
        if too_large:
            raise InvalidInput(_too_large(path, most))
    try:
        return b"".join(parts).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: can't be read ({error}); give a file of UTF-8 text") from None


def _corpus(path: Path) -> Path:
    if not path.is_dir():
        return path
    corpus = file_in(path, "corpus.jsonl", "corpus.jsonl.gz")
    if corpus is None:
        raise InvalidInput(
            f"{path}: holds no corpus.jsonl or corpus.jsonl.gz; give the folder of a BEIR dataset"
        )
    return corpus


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
    with _opened(path) as source:
        while line := source.line():
            number += 1
            if len(line) > LONGEST_LINE:
                raise InvalidInput(
                    f"{_name(path)}:{number}: is longer than {LONGEST_LINE // 2**20} MB; "
                    "write one memory a line"
                )
            if line.strip():
                yield number, line


class _Metered:
    """A stream that counts what is read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data


class _Source:
    """An open file, compressed or not, that is read only as far as it is no bomb."""

    def __init__(self, path: Path, stream: IO[bytes], packed: _Metered | None) -> None:
        """`packed` is what `stream` unfolds."""
        self._path = path
        self._stream = stream
        self._packed = packed
        self.unfolded = 0

    def line(self) -> bytes:
        """The next line, or as much of it as tells that it is too long."""
        return self._counted(self._stream.readline(LONGEST_LINE + 1))

    def read(self) -> bytes:
        """The next part, empty at the end."""
        return self._counted(self._stream.read(2**20))

    def _counted(self, data: bytes) -> bytes:
        self.unfolded += len(data)
        if self.unfolded > LARGEST_FILE:
            raise InvalidInput(_too_large(self._path, LARGEST_FILE))
        packed = self._packed
        if packed and self.unfolded > max(HARMLESS_SIZE, MOST_EXPANSION * packed.count):
            raise InvalidInput(
                f"{_name(self._path)}: unfolds to more than {MOST_EXPANSION} times its size, as no "
                "text does; if you trust it, unpack it first and give the unpacked file"
            )
        return data


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    with _raw(path) as raw:
        if raw.peek(2)[:2] != b"\x1f\x8b":
            yield _Source(path, raw, None)
            return
        packed = _Metered(raw)
        with _damage_named(path), gzip.GzipFile(fileobj=packed, mode="rb") as stream:  # type: ignore[call-overload]
            yield _Source(path, stream, packed)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(
            f"{_name(path)}: the compressed file is damaged ({error}); fetch it again"
        ) from None


@contextmanager
def _raw(path: Path) -> Iterator[Any]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file; give the path of an existing one") from None
    except IsADirectoryError:
        raise InvalidInput(
            f"{path}: is a folder; give a file, or --format beir for a BEIR dataset"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{path}: can't be opened ({reason}); give a readable file") from None
    with stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"{path}: is no file but a pipe or a device; pipe it into: import -")
        if status.st_size > LARGEST_FILE:
            raise InvalidInput(_too_large(path, LARGEST_FILE))
        yield stream


def _without_waiting(path: str, flags: int) -> int:
    # A pipe that nobody writes to would hold up its reader for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _too_large(path: Path, most: int) -> str:
    return f"{_name(path)}: has more than {most / 2**20:,.0f} MB; give it in smaller parts"


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
