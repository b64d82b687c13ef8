"""What a receipt promises: the memory's files are on the disk, and known by their digests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from byheart_store import MemoryStore, NewMemory
from byheart_store.home import Home
from byheart_store.tables import maintenance
from byheart_store.tables.ledger import files_below, read_ledger, recorded


class Disk:
    """Which files were forced to the disk, and what they held then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: set[tuple[str, int]] = set()
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            self.synced.add((path, os.fstat(descriptor).st_mtime_ns))

        monkeypatch.setattr(os, "fsync", noted)

    def lacks(self, home: Path) -> set[str]:
        """Files and folders of the database that a loss of power might take."""
        database = home / "db"
        paths = [database, *(database / name for name in files_below(database))]
        paths += {
            parent for path in paths[1:] for parent in path.parents if database in parent.parents
        }
        now = {(str(path), path.stat().st_mtime_ns) for path in paths}
        return {path for path, _ in now - self.synced}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors can't be told by name on this platform")
    return Disk(monkeypatch)


async def test_what_was_acknowledged_is_on_the_disk(disk: Disk, home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        for text in ("Ana likes tea", "Ben likes coffee"):
            await store.remember(NewMemory(text=text, session="breakfast"))
            assert disk.lacks(home) == set()
        await store.forget([(await store.recall("tea", log=False)).hits[0].id])
        assert disk.lacks(home) == set()
        await store.reindex()
        assert disk.lacks(home) == set()


async def test_what_another_process_committed_last_is_made_durable_too(
    disk: Disk, home: Path
) -> None:
    async with await MemoryStore.open(home, durability="os") as store:
        await store.remember(NewMemory(text="Ana likes tea"))
    disk.synced.clear()
    async with await MemoryStore.open(home) as store:
        (home / "ledger" / "files.txt").unlink()
        again = await store.remember(NewMemory(text="Ana likes tea"))
    assert again.status == "duplicate"
    assert not [path for path in disk.lacks(home) if "memories.lance" in path]


async def test_durability_may_be_left_to_the_system(disk: Disk, home: Path) -> None:
    async with await MemoryStore.open(home, durability="os") as store:
        await store.remember(NewMemory(text="Ana likes tea"))
    assert disk.synced == set()


@pytest.mark.parametrize("durability", ["fsync", "os"])
async def test_every_file_is_known_by_its_digest(
    home: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "COMMITS_BETWEEN_COMPACTIONS", 16)
    async with await MemoryStore.open(home, durability=durability) as store:  # type: ignore[arg-type]
        for number in range(20):
            await store.remember(NewMemory(text=f"note {number}"))
    files = {name: recorded(home / "db" / name) for name in files_below(home / "db")}
    known = read_ledger(Home(home))
    assert {name: known[name] for name in files} == files


async def test_the_latest_manifest_of_each_table_is_kept_twice(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        await store.remember(NewMemory(text="Ana likes tea"))
    for table in ("memories", "recalls", "labels"):
        latest = min((home / "db" / f"{table}.lance" / "_versions").glob("*.manifest"))
        (spare,) = (Home(home).spares / table).iterdir()
        assert (spare.name, spare.read_bytes()) == (latest.name, latest.read_bytes())


async def test_a_ledger_does_not_grow_without_bound(home: Path) -> None:
    async with await MemoryStore.open(home, model="no/such-model") as store:
        for number in range(6):
            await store.remember_many([NewMemory(text=f"note {number} {i}") for i in range(300)])
            await store.purge()
        present = len(list(files_below(home / "db")))
    assert len(read_ledger(Home(home))) <= 2 * present + 300


async def test_a_line_that_a_crash_has_cut_off_is_passed_over(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        await store.remember(NewMemory(text="Ana likes tea"))
        with (home / "ledger" / "files.txt").open("ab") as ledger:
            ledger.write(b"0123456789abcdef")
        await store.remember(NewMemory(text="Ben likes coffee"))
    files = set(files_below(home / "db"))
    assert len(files - read_ledger(Home(home)).keys()) <= 1
