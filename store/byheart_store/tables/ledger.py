"""What lies on disk, file by file: made durable after each commit, and known by its digest.

LanceDB never calls fsync, and notices little of what happens to its files afterwards. Its files
are immutable once written, so a list of digests tells the damaged ones from the sound ones.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from byheart_store.home import Home
from byheart_store.tables.lance_manifest import DELETIONS, MANIFEST_SUFFIX, VERSION_HINT

logger = logging.getLogger(__name__)

DIGEST_BYTES = 16
SPACE_FOR_GONE = 256
"""Lines of files that are gone which may stand in the ledger before it is written anew."""

_CHUNK = 1 << 20
_TABLE_SUFFIX = ".lance"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a file was when it was written: its BLAKE2b digest in hex, and its size in bytes."""

    digest: str
    size: int


class Ledger:
    """The record of a local database's files. Methods are to be called under the write lock."""

    def __init__(self, home: Home, *, durable: bool) -> None:
        """`durable` tells whether files are also forced to the disk."""
        self._database = home.tables
        self._path = home.digests
        self._spare = home.spares
        self._durable = durable
        self._synced: set[Path] = set()
        self._known: set[str] = set()
        self._kept = 0
        self._read_up_to = 0
        self._inode: int | None = None

    def settle(self, tables: Collection[str] | None = None) -> None:
        """Make durable and record whatever has appeared since the last time, by any process.

        Only these `tables` are looked at, where they are named.

        Raises:
            OSError: the disk refused; what was committed may not survive a loss of power.
        """
        others = self._read_on()
        present = set(files_below(self._database, tables))
        if self._durable:
            # Whoever recorded them may have left durability to the system.
            self._sync_files(others & present)
        fresh = sorted(present - self._known)
        if not fresh:
            return
        found = self._examined(fresh)
        if self._durable:
            self._sync_folders(found)
        try:
            self._record(found)
        except OSError as error:
            # The memory is safe, and what is not recorded now is recorded after the next commit.
            logger.warning("%s could not be brought up to date: %s", self._path, error)

    def _examined(self, fresh: Iterable[str]) -> dict[str, Recorded]:
        found = {}
        for name in fresh:
            with suppress(FileNotFoundError):  # a draft that was renamed or removed meanwhile
                found[name] = recorded(self._database / name, durable=self._durable)
        return found

    def _sync_files(self, names: Collection[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                recorded(self._database / name, durable=True)
        self._sync_folders(names)

    def _sync_folders(self, names: Iterable[str]) -> None:
        """Make new names durable; those of the folders above once, as they don't change."""
        for folder in {name.rpartition("/")[0] for name in names}:
            path = self._database / folder
            above = [] if path in self._synced else [*path.parents][: folder.count("/") + 2]
            for one in (path, *above):
                with suppress(FileNotFoundError):
                    sync_folder(one)
            self._synced.add(path)

    def _record(self, found: Mapping[str, Recorded]) -> None:
        for name in _worth_a_spare(found):
            self._keep_spare(self._database / name)
        self._append(ledger_line(name, file) for name, file in found.items())
        self._known.update(found)
        if len(self._known) > 2 * self._kept + SPACE_FOR_GONE:
            present = set(files_below(self._database))
            self._kept = len(present)
            self._rewrite(present)

    def _keep_spare(self, file: Path) -> None:
        """Copy a file without which memories are lost, or come back; of manifests the latest."""
        folder = self._spare / file.parents[1].stem
        folder.mkdir(parents=True, exist_ok=True)
        former = list(folder.glob(f"*{MANIFEST_SUFFIX}")) if _is_manifest(file.name) else []
        replace_bytes(folder / file.name, file.read_bytes())
        for path in former:
            if path.name != file.name:
                path.unlink(missing_ok=True)

    def _append(self, lines: Iterable[str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as ledger:
            ledger.write("".join(lines).encode())
            self._read_up_to = ledger.tell()
            self._inode = os.fstat(ledger.fileno()).st_ino

    def _read_on(self) -> set[str]:
        """Take over what other processes have recorded; returns what is new of it."""
        try:
            with self._path.open("rb") as ledger:
                status = os.fstat(ledger.fileno())
                if status.st_ino != self._inode or status.st_size < self._read_up_to:
                    self._start_over(status.st_ino)
                ledger.seek(self._read_up_to)
                others = _parsed(ledger.read()).keys() - self._known
                self._read_up_to = ledger.tell()
        except FileNotFoundError:
            self._start_over(None)
            return set()
        self._known |= others
        return others

    def _start_over(self, inode: int | None) -> None:
        self._known, self._read_up_to, self._inode = set(), 0, inode

    def _rewrite(self, present: set[str]) -> None:
        """Let go of what is said, and kept, of files that are gone."""
        kept = _parsed(self._path.read_bytes())
        lines = [ledger_line(name, file) for name, file in kept.items() if name in present]
        replace_bytes(self._path, "".join(lines).encode())
        self._inode = None
        here = {(name.partition(_TABLE_SUFFIX)[0], name.rpartition("/")[2]) for name in present}
        for spare in self._spare.glob("*/*"):
            if (spare.parent.name, spare.name) not in here:
                spare.unlink(missing_ok=True)


def read_ledger(home: Home) -> Mapping[str, Recorded]:
    """What is recorded of each file, by its path below the database; empty without a ledger."""
    try:
        return _parsed(home.digests.read_bytes())
    except FileNotFoundError:
        return {}


def files_below(database: Path, tables: Collection[str] | None = None) -> Iterator[str]:
    """The paths of all immutable files of these or all tables, relative to the database."""
    with suppress(FileNotFoundError), os.scandir(database) as entries:
        for entry in entries:
            table = entry.name.removesuffix(_TABLE_SUFFIX)
            is_wanted = table != entry.name and (tables is None or table in tables)
            if is_wanted and entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path, entry.name)


def _files_below(folder: str, name: str) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            below = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path, below)
            elif entry.name != VERSION_HINT:
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


def _worth_a_spare(names: Iterable[str]) -> Iterator[str]:
    """The lists of deleted rows, and the latest manifest of each table: its names count down."""
    manifests = sorted(filter(_is_manifest, names))
    for _, versions in groupby(manifests, key=lambda name: name.partition("/")[0]):
        yield next(versions)
    yield from (name for name in names if f"/{DELETIONS}/" in name)


def _is_manifest(name: str) -> bool:
    return name.endswith(MANIFEST_SUFFIX)


def ledger_line(name: str, file: Recorded) -> str:
    """What the ledger says of a file."""
    return f"{file.digest} {file.size} {name}\n"


def _parsed(content: bytes) -> dict[str, Recorded]:
    """The whole lines; one that a crash has cut off is left out."""
    found = {}
    for line in content.decode(errors="replace").splitlines():
        digest, size, name = [*line.split(" ", 2), "", ""][:3]
        if len(digest) == 2 * DIGEST_BYTES and size.isdecimal() and name:
            found[name] = Recorded(digest, int(size))
    return found
