"""What a version of a table consists of, read from its manifest without the engine.

The engine opens no table whose latest manifest is bad, and tells of none which files it needs. A
manifest is a protobuf message (`lance.table.Manifest`); the few fields needed are read here.

Depends on the layout that LanceDB 0.40 writes: field numbers of the message, a footer of sixteen
bytes that ends in "LANC", file names that count up, or down from 2^64 - 1, and the folders `data`,
`_deletions`, `_indices` and `_transactions`.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

MANIFEST_SUFFIX = ".manifest"
VERSIONS = "_versions"
DELETIONS = "_deletions"
VERSION_HINT = "latest_version_hint.json"
"""Written again with each version, and made anew where it is missing."""

_MAGIC = b"LANC"
_FOOTER = 16
_HIGHEST = 2**64 - 1
_COUNTING_DOWN = 20
"""Digits of a name that counts down from the highest number; shorter ones count up."""


class BadManifest(ValueError):
    """The bytes are no manifest, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rows that lie in the same files, each with some of the columns."""

    number: int
    files: tuple[DataFile, ...]
    rows: int
    deletions: str | None = None
    deleted: int = 0

    def names(self) -> Iterator[str]:
        """The paths of all its files, relative to the table."""
        yield from (file.name for file in self.files)
        if self.deletions:
            yield self.deletions


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a fragment, the columns in it, and its size in bytes where that is recorded."""

    name: str
    columns: frozenset[str]
    size: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A version: its fragments, and its indexes' files with their sizes."""

    version: int
    made: datetime | None
    fragments: tuple[Fragment, ...]
    indexes: frozenset[str]
    index_sizes: dict[str, int]
    transaction: str | None

    @property
    def rows(self) -> int:
        """The rows that are not deleted."""
        return sum(fragment.rows - fragment.deleted for fragment in self.fragments)

    def sizes(self) -> dict[str, int | None]:
        """The files that the version can't be read without, and their sizes where recorded."""
        files = {name: None for part in self.fragments for name in part.names()}
        data = {file.name: file.size for part in self.fragments for file in part.files}
        return files | data | self.index_sizes


def version_of(name: str) -> int | None:
    """The version that a manifest's file name stands for, None if it is no such name."""
    stem = name.removesuffix(MANIFEST_SUFFIX)
    if stem == name or not stem.isdecimal():
        return None
    return _HIGHEST - int(stem) if len(stem) == _COUNTING_DOWN else int(stem)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        BadManifest: it is cut off, garbled, or not that of the version its name stands for.
    """
    content = path.read_bytes()
    try:
        manifest = _manifest(content)
    except (struct.error, IndexError, ValueError, OverflowError, KeyError, TypeError) as error:
        raise BadManifest(f"{path.name} is no manifest: {error}") from error
    if manifest.version != version_of(path.name):
        raise BadManifest(f"{path.name} says that it is version {manifest.version}")
    return manifest


def _manifest(content: bytes) -> Manifest:
    if content[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("its end is missing")
    (start,) = struct.unpack("<Q", content[-_FOOTER:-8])
    message = _Message(_sized(content, start))
    columns = _columns(message)
    made = _Message(message.content(7)) if message.has(7) else None
    section = _sized(content, message.number(6)) if message.has(6) else b""
    indexes = [_Message(one) for one in _Message(section).all(1)]
    folders = {
        f"_indices/{uuid.UUID(bytes=_Message(one.content(1)).content(1))}": one for one in indexes
    }
    return Manifest(
        version=message.number(3),
        made=datetime.fromtimestamp(made.number(1), UTC) if made else None,
        fragments=tuple(_fragment(part, columns) for part in message.all(2)),
        indexes=frozenset(folders),
        index_sizes={
            f"{folder}/{file.text(1)}": file.number(2)
            for folder, one in folders.items()
            for file in map(_Message, one.all(10))
        },
        transaction=f"_transactions/{message.text(12)}" if message.has(12) else None,
    )


def _columns(message: _Message) -> dict[int, str]:
    """The name of the column that each field belongs to, the fields within lists included."""
    fields = [_Message(one) for one in message.all(1)]
    columns: dict[int, str] = {}
    for field in fields:
        parent = field.number(4)
        columns[field.number(3)] = columns.get(parent, field.text(2)) if parent else field.text(2)
    return columns


def _fragment(part: bytes, columns: dict[int, str]) -> Fragment:
    message = _Message(part)
    number = message.number(1)
    files = tuple(_data_file(_Message(one), columns) for one in message.all(2))
    if not message.has(3):
        return Fragment(number, files, message.number(4))
    deletion = _Message(message.content(3))
    suffix = "bin" if deletion.number(1) else "arrow"
    name = f"{DELETIONS}/{number}-{deletion.number(2)}-{deletion.number(3)}.{suffix}"
    return Fragment(number, files, message.number(4), name, deletion.number(4))


def _data_file(message: _Message, columns: dict[int, str]) -> DataFile:
    names = frozenset(columns[field] for field in message.packed(2) if field in columns)
    return DataFile(f"data/{message.text(1)}", names, message.number(6) or None)


def _sized(content: bytes, start: int) -> bytes:
    (size,) = struct.unpack("<I", content[start : start + 4])
    message = content[start + 4 : start + 4 + size]
    if len(message) != size:
        raise ValueError("a part is cut off")
    return message


class _Message:
    """The fields of a protobuf message by number, each with its values in order."""

    def __init__(self, content: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        offset = 0
        while offset < len(content):
            key, offset = _varint(content, offset)
            value, offset = _value(content, offset, key & 7)
            self._fields.setdefault(key >> 3, []).append(value)

    def has(self, field: int) -> bool:
        return field in self._fields

    def number(self, field: int) -> int:
        value = self._fields.get(field, [0])[-1]
        if not isinstance(value, int):
            raise TypeError(f"field {field} is no number")
        return value

    def content(self, field: int) -> bytes:
        return self.all(field)[-1]

    def text(self, field: int) -> str:
        return self.content(field).decode()

    def all(self, field: int) -> list[bytes]:
        values = self._fields.get(field, [])
        found = [value for value in values if isinstance(value, bytes)]
        if len(found) != len(values):
            raise TypeError(f"field {field} is a number")
        return found

    def packed(self, field: int) -> Iterator[int]:
        for value in self._fields.get(field, []):
            if isinstance(value, int):
                yield value
                continue
            offset = 0
            while offset < len(value):
                number, offset = _varint(value, offset)
                yield number


def _varint(content: bytes, offset: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[offset]
        number |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return number & _HIGHEST, offset


def _value(content: bytes, offset: int, wire: int) -> tuple[int | bytes, int]:
    if wire == 0:
        return _varint(content, offset)
    if wire == 2:
        size, offset = _varint(content, offset)
    elif wire in (1, 5):
        size = 8 if wire == 1 else 4
    else:
        raise ValueError(f"unknown wire type {wire}")
    if offset + size > len(content):
        raise ValueError("a field is cut off")
    return content[offset : offset + size], offset + size
