"""What lies on disk, file by file: made durable after each commit, and known by its digest.

LanceDB never calls fsync, and notices little of what happens to its files afterwards. Its files
are immutable once written, so a list of digests tells the damaged ones from the sound ones.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

logger = logging.getLogger(__name__)

DIGEST_BYTES = 16
SYNCS_AT_ONCE = 6

SPACE_FOR_GONE = 256
"""Lines of files that are gone which may stand in the ledger before it is written anew."""

_CHUNK = 1 << 20
_TABLE_SUFFIX = ".lance"
_MANIFEST_SUFFIX = ".manifest"
_VERSION_HINT = "latest_version_hint.json"
"""Written again with each version, and made anew where it is missing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a file was when it was written: its BLAKE2b digest in hex, and its size in bytes."""

    digest: str
    size: int


class Ledger:
    """The record of a local database's files. Methods are to be called under the write lock."""

    def __init__(self, home: Path, database: Path, *, durable: bool) -> None:
        """`durable` tells whether files are also forced to the disk."""
        self._database = database
        self._path = ledger_path(home)
        self._spare = spare_folder(home)
        self._durable = durable
        self._workers = ThreadPoolExecutor(SYNCS_AT_ONCE, "byheart-ledger")
        self._known: set[str] = set()
        self._read_up_to = 0
        self._inode: int | None = None

    def close(self) -> None:
        """Let the threads go."""
        self._workers.shutdown(wait=False)

    def settle(self) -> None:
        """Make durable and record whatever has appeared since the last time, by any process.

        Raises:
            OSError: the disk refused; what was committed may not survive a loss of power.
        """
        self._read_on()
        present = set(files_below(self._database))
        fresh = sorted(present - self._known)
        if not fresh:
            return
        folders = _folders(fresh) if self._durable else set()
        # Side by side, because a journaling filesystem commits at once what waits together.
        syncing = [self._workers.submit(self._sync_folder, folder) for folder in folders]
        files = zip(fresh, self._workers.map(self._examined, fresh), strict=True)
        found = {name: file for name, file in files if file is not None}
        for sync in syncing:
            sync.result()
        try:
            self._record(found, present)
        except OSError as error:
            # The memory is safe, and what is not recorded now is recorded after the next commit.
            logger.warning("%s could not be brought up to date: %s", self._path, error)

    def _examined(self, name: str) -> Recorded | None:
        """None for a draft that was renamed or removed meanwhile."""
        with suppress(FileNotFoundError):
            return recorded(self._database / name, durable=self._durable)
        return None

    def _sync_folder(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            sync_folder(self._database / folder)

    def _record(self, found: Mapping[str, Recorded], present: set[str]) -> None:
        for name in _latest_manifests(found):
            self._keep_spare(self._database / name)
        self._append(_line(name, file) for name, file in found.items())
        self._known.update(found)
        if len(self._known) > 2 * len(present) + SPACE_FOR_GONE:
            self._rewrite(present)

    def _keep_spare(self, manifest: Path) -> None:
        folder = self._spare / manifest.parents[1].stem
        folder.mkdir(parents=True, exist_ok=True)
        former = [path for path in folder.iterdir() if path.name != manifest.name]
        replace_bytes(folder / manifest.name, manifest.read_bytes())
        for path in former:
            path.unlink(missing_ok=True)

    def _append(self, lines: Iterable[str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as ledger:
            ledger.write("".join(lines).encode())
            self._read_up_to = ledger.tell()
            self._inode = os.fstat(ledger.fileno()).st_ino

    def _read_on(self) -> None:
        """Take over what other processes have recorded."""
        try:
            with self._path.open("rb") as ledger:
                status = os.fstat(ledger.fileno())
                if status.st_ino != self._inode or status.st_size < self._read_up_to:
                    self._known, self._read_up_to, self._inode = set(), 0, status.st_ino
                ledger.seek(self._read_up_to)
                self._known.update(_parsed(ledger.read()))
                self._read_up_to = ledger.tell()
        except FileNotFoundError:
            self._known, self._read_up_to, self._inode = set(), 0, None

    def _rewrite(self, present: set[str]) -> None:
        kept = _parsed(self._path.read_bytes())
        lines = [_line(name, file) for name, file in kept.items() if name in present]
        replace_bytes(self._path, "".join(lines).encode())
        self._inode = None


def ledger_path(home: Path) -> Path:
    """Where a home keeps the digests of its database's files."""
    return home / "ledger" / "files.txt"


def spare_folder(home: Path) -> Path:
    """Where a home keeps a copy of each table's latest manifest, in a folder a table."""
    return home / "ledger" / "spare"


def read_ledger(home: Path) -> Mapping[str, Recorded]:
    """What is recorded of each file, by its path below the database; empty without a ledger."""
    try:
        return _parsed(ledger_path(home).read_bytes())
    except FileNotFoundError:
        return {}


def files_below(database: Path) -> Iterator[str]:
    """The paths of all immutable files of all tables, relative to the database."""
    with suppress(FileNotFoundError), os.scandir(database) as entries:
        for entry in entries:
            if entry.name.endswith(_TABLE_SUFFIX) and entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path, entry.name)


def _files_below(folder: str, name: str) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            below = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path, below)
            elif entry.name != _VERSION_HINT:
                yield below


def recorded(path: Path, *, durable: bool = False) -> Recorded:
    """The digest and size of a file as it is now, forced to the disk where it is to be durable."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    size = 0
    with path.open("r+b" if durable and os.name == "nt" else "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
        if durable:
            _force(file.fileno())
    return Recorded(digest.hexdigest(), size)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _force(descriptor)
    finally:
        os.close(descriptor)


def replace_bytes(path: Path, content: bytes) -> None:
    """Put a file in the place of another whole, or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _force(descriptor: int) -> None:
    try:
        from fcntl import F_FULLFSYNC, fcntl  # type: ignore[attr-defined]
    except ImportError:
        os.fsync(descriptor)
    else:  # macOS: fsync alone leaves the drive's own cache
        fcntl(descriptor, F_FULLFSYNC)


def _latest_manifests(names: Iterable[str]) -> Iterator[str]:
    """The latest manifest of each table among these files: its names count down."""
    manifests = sorted(name for name in names if name.endswith(_MANIFEST_SUFFIX))
    for _, versions in groupby(manifests, key=lambda name: name.partition("/")[0]):
        yield next(versions)


def _folders(names: Iterable[str]) -> set[str]:
    """The folders that lead to these files, the database itself as an empty name."""
    folders = set()
    for name in names:
        folder = name
        while folder:
            folder = folder.rpartition("/")[0]
            folders.add(folder)
    return folders


def _line(name: str, file: Recorded) -> str:
    return f"{file.digest} {file.size} {name}\n"


def _parsed(content: bytes) -> dict[str, Recorded]:
    """The whole lines; one that a crash has cut off is left out."""
    found = {}
    for line in content.decode(errors="replace").splitlines():
        digest, size, name = [*line.split(" ", 2), "", ""][:3]
        if len(digest) == 2 * DIGEST_BYTES and size.isdecimal() and name:
            found[name] = Recorded(digest, int(size))
    return found
