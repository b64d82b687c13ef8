"""Files from anywhere, read without harm: bounded, unfolded with care, never followed outside."""

from __future__ import annotations

import gzip
import json
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from byheart_store.errors import InvalidInput

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


def json_objects(path: Path) -> Iterator[Row]:
    """The JSON objects of a file, one a line, compressed or not.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    return (row for _, row in numbered_objects(path))


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
    with opened(path) as source:
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


def numbered_objects(path: Path) -> Iterator[tuple[str, Row]]:
    """Each JSON object of a file, and the file and line where it stands."""
    for number, line in _lines(path):
        where = f"{display_name(path)}:{number}"
        try:
            yield where, _row(line)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    with opened(path) as source:
        while line := source.line():
            number += 1
            if len(line) > LONGEST_LINE:
                raise InvalidInput(
                    f"{display_name(path)}:{number}: is longer than {LONGEST_LINE // 2**20} MB; "
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
    """An open file, compressed or not; reading stops when it turns out to be a bomb."""

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
                f"{display_name(self._path)}: unfolds to more than {MOST_EXPANSION} times its "
                "size, as no text does; if you trust it, unpack it first and give the unpacked file"
            )
        return data


@contextmanager
def opened(path: Path) -> Iterator[_Source]:
    """Open a file, or standard input, and unfold it where it is compressed."""
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
            f"{display_name(path)}: the compressed file is damaged ({error}); fetch it again"
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
    return f"{display_name(path)}: has more than {most / 2**20:,.0f} MB; give it in smaller parts"


def display_name(path: Path) -> str:
    """What a file is called in messages."""
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
