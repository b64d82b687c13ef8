"""A store in one file and back: consistent, compared, and never in the way of what is there."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byheart_store import InvalidInput, MemoryStore, NewMemory, StoreUnavailable
from byheart_store.upkeep.backup import Archived, back_up, restore
from byheart_store.upkeep.repair import Doctor

Vandal = Callable[[Path], None]


@pytest.fixture
async def archive(home: Path, tmp_path: Path) -> Path:
    """A backup of a store with two memories."""
    async with await MemoryStore.open(home, model="no/such-model", durability="os") as store:
        await store.remember_many([NewMemory(text="one"), NewMemory(text="two")])
    await back_up(home, tmp_path / "backup.tgz")
    return tmp_path / "backup.tgz"


async def texts(home: Path) -> list[str]:
    async with await MemoryStore.open(home, model="no/such-model", durability="os") as store:
        return sorted([memory.text async for memory in store.memories()])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def write_text(path: Path) -> None:
    path.write_text("no archive at all")


def rewritten(
    path: Path, change: Callable[[dict[str, Any], dict[str, tarfile.TarInfo]], None]
) -> None:
    """Write the archive again with another list of files or other members."""
    with tarfile.open(path) as former:
        members = {member.name: member for member in former}
        contents = {
            name: file.read()
            for name, member in members.items()
            if (file := former.extractfile(member))
        }
    head = json.loads(contents["manifest.json"])
    change(head, members)
    contents["manifest.json"] = json.dumps(head).encode()
    members["manifest.json"].size = len(contents["manifest.json"])
    with tarfile.open(path, "w:gz") as later:
        for name, member in members.items():
            later.addfile(member, io.BytesIO(contents.get(name, b"")))


def leave_one_out(path: Path) -> None:
    rewritten(path, lambda _, members: members.pop("ledger/files.txt") and None)


def smuggle(name: str, **member: Any) -> Vandal:
    """Add a member to both the list of files and the archive."""

    def vandal(path: Path) -> None:
        def change(head: dict[str, Any], members: dict[str, tarfile.TarInfo]) -> None:
            info = tarfile.TarInfo(name)
            for key, value in member.items():
                setattr(info, key, value)
            members[name] = info
            head["files"][name] = {"digest": "cae66941d9efbd404e4d88758ea67670", "size": 0}

        rewritten(path, change)

    return vandal


VANDALS: dict[str, Vandal] = {
    "cut off": cut_off,
    "altered": flip,
    "foreign": write_text,
    "incomplete": leave_one_out,
    "path that leads out": smuggle("db/../../escaped"),
    "absolute path": smuggle("/tmp/escaped"),
    "another folder": smuggle("tokens.txt"),
    "link": smuggle("db/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": smuggle("db/link", type=tarfile.LNKTYPE, linkname="manifest.json"),
    "device": smuggle("db/device", type=tarfile.CHRTYPE),
}


async def test_a_restored_store_holds_what_was_backed_up(archive: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    done = await restore(there, archive)
    assert (done.memories, await texts(there)) == (2, ["one", "two"])
    assert (await Doctor(there).examine()).healthy


async def test_trained_models_are_in_it_and_downloaded_ones_are_not(
    home: Path, archive: Path, tmp_path: Path
) -> None:
    for folder in ("models/mine", "models/cache"):
        (home / folder).mkdir(parents=True)
        (home / folder / "model.onnx").write_text("weights")
    await back_up(home, archive)
    await restore(tmp_path / "there", archive)
    models = tmp_path / "there" / "models"
    assert [path.name for path in models.iterdir()] == ["mine"]


async def test_a_backup_under_writes_is_of_one_moment(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "backup.tgz"
    async with await MemoryStore.open(home, model="no/such-model", durability="os") as store:
        await store.remember(NewMemory(text="before"))

        async def write_on() -> None:
            for number in range(40):
                await store.remember_many([NewMemory(text=f"{number} {n}") for n in range(3)])

        writing = asyncio.create_task(write_on())
        done = [await back_up(home, path) for _ in range(3)]
        await writing
    await restore(tmp_path / "there", path)
    restored = await texts(tmp_path / "there")
    assert len(restored) == done[-1].memories
    assert done[-1].memories % 3 == 1
    assert (await Doctor(tmp_path / "there").examine()).healthy


async def test_a_home_with_a_store_is_only_replaced_when_asked(home: Path, archive: Path) -> None:
    async with await MemoryStore.open(home, model="no/such-model", durability="os") as store:
        await store.remember(NewMemory(text="three"))
    with pytest.raises(InvalidInput, match="--replace"):
        await restore(home, archive)
    assert await texts(home) == ["one", "three", "two"]
    done = await restore(home, archive, replace=True)
    assert await texts(home) == ["one", "two"]
    assert done.set_aside is not None
    assert await texts(done.set_aside) == ["one", "three", "two"]


@pytest.mark.parametrize("vandal", VANDALS)
async def test_a_bad_backup_is_refused_and_nothing_changed(
    vandal: str, home: Path, archive: Path, tmp_path: Path
) -> None:
    VANDALS[vandal](archive)
    before = contents(home)
    with pytest.raises(InvalidInput, match="is no backup, or a damaged one"):
        await restore(home, archive, replace=True)
    assert contents(home) == before
    assert not [path for path in contents(tmp_path) if path.name == "escaped"]


async def test_a_damaged_store_is_not_backed_up(home: Path, archive: Path) -> None:
    flip(min(path for path in contents(home) if "memories.lance/data" in path.as_posix()))
    before = contents(home.parent)
    with pytest.raises(StoreUnavailable, match="byheart doctor --repair"):
        await back_up(home, archive)
    assert contents(home.parent) == before


async def test_what_a_killed_backup_left_is_cleared(home: Path, archive: Path) -> None:
    (home / "staging" / "db").mkdir(parents=True)
    done: Archived = await back_up(home, archive)
    assert done.memories == 2
    assert not (home / "staging").exists()


async def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no store at"):
        await back_up(tmp_path / "nowhere", tmp_path / "backup.tgz")
    with pytest.raises(InvalidInput, match="there is no file"):
        await restore(tmp_path / "home", tmp_path / "backup.tgz")
