"""A home: the folder of one store, where each thing in it lies, and the locks that guard it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from byheart_store.errors import StoreBusy

Work = Literal["write", "index", "reindex", "backup", "retrain"]
"""What only one process at a time may do; each has a lock file of its own."""

LONGEST_LOOK = 0.2
"""Seconds that a look at a lock may take on a busy machine."""

TABLES = "db"
LEDGER = "ledger"
DIGESTS = "files.txt"
MODELS = "models"
DOWNLOADS = f"{MODELS}/cache"
BENCHMARKS = "cache/eval"
TRAINING = "cache/retrain"
STAGING = "staging"
SET_ASIDE = "set-aside"


@dataclass(frozen=True, slots=True)
class Home:
    """The paths below one folder. None of them needs to exist."""

    folder: Path

    @property
    def tables(self) -> Path:
        """The database's folder, unless the store lies at a URI."""
        return self.folder / TABLES

    @property
    def digests(self) -> Path:
        """The file with the digest of each of the database's files."""
        return self.folder / LEDGER / DIGESTS

    @property
    def spares(self) -> Path:
        """The copies of each table's latest manifest, in a folder a table."""
        return self.folder / LEDGER / "spare"

    @property
    def models(self) -> Path:
        """The models that were trained here, in a folder each."""
        return self.folder / MODELS

    @property
    def downloads(self) -> Path:
        """The models that were fetched by name."""
        return self.folder / DOWNLOADS

    @property
    def benchmarks(self) -> Path:
        """Benchmarks that an evaluation has embedded; may be deleted."""
        return self.folder / BENCHMARKS

    @property
    def training(self) -> Path:
        """The unfinished work of a training; may be deleted while none runs."""
        return self.folder / TRAINING

    @property
    def staging(self) -> Path:
        """Where a backup or a restore puts its files together."""
        return self.folder / STAGING

    def set_aside(self, moment: datetime) -> Path:
        """Where a repair or a restore at this moment moves what stands in its way."""
        return self.folder / SET_ASIDE / f"{moment:%Y-%m-%dT%H%M%S.%fZ}"

    def lock(self, work: Work) -> Path:
        """The file whose lock is held by whoever does this work."""
        return self.folder / f"{work}.lock"

    @contextmanager
    def exclusively(self, work: Work, busy: str) -> Iterator[None]:
        """Do a long piece of work that only one process at a time may do.

        Raises:
            StoreBusy: another one is at it; the message is `busy`.
        """
        with exclusive(self.lock(work), busy):
            yield

    def is_at_work(self, work: Work) -> bool:
        """Whether a living process does this work."""
        path = self.lock(work)
        if not path.exists():
            return False
        try:
            with exclusive(path, "", patience=0):
                return False
        except StoreBusy:
            return True


@contextmanager
def exclusive(path: Path, busy: str, *, patience: float = LONGEST_LOOK) -> Iterator[None]:
    """Hold the lock of a file, which the system frees when its process dies.

    Whoever looks whether it is held holds it for a moment: that is waited for, for `patience`
    seconds.

    Raises:
        StoreBusy: another process holds it; the message is `busy`.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=0.01)
    except Timeout:
        raise StoreBusy(busy) from None
    try:
        yield
    finally:
        lock.release()
