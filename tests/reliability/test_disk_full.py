"""A full disk: a clear refusal, nothing half-written, and work goes on once there is room."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from ..protocol.conftest import SERVE, Wire

resource = pytest.importorskip("resource", reason="Windows has no such limits")

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(300)]

SMALL = "3m"
LARGE = "256m"
MANY = 600
LARGEST_FILE = 20_000
"""Bytes, of a disk that is full for every larger file."""


class Disk(Protocol):
    """Where a store has little room, until it is given more."""

    home: Path

    def before_start(self) -> None:
        """Called in each process before it starts."""

    def exhaust(self, process: subprocess.Popen[bytes]) -> None:
        """Take even the little room that is left."""

    def make_room(self, process: subprocess.Popen[bytes]) -> None:
        """Let this process, and those that start later, write as much as they like."""


class SmallFilesystem:
    """A filesystem of its own of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._folder = folder

    def before_start(self) -> None:
        pass

    def exhaust(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(OSError), (self._folder / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4_096):
                pass

    def make_room(self, process: subprocess.Popen[bytes]) -> None:
        mount("-o", f"remount,size={LARGE}", str(self._folder))


class SmallFiles:
    """A disk on which no file may grow beyond a few kilobytes."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._most = LARGEST_FILE

    def before_start(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._most, resource.RLIM_INFINITY))

    def exhaust(self, process: subprocess.Popen[bytes]) -> None:
        self._limit(process, 16)

    def make_room(self, process: subprocess.Popen[bytes]) -> None:
        self._limit(process, resource.RLIM_INFINITY)

    def _limit(self, process: subprocess.Popen[bytes], most: int) -> None:
        self._most = most
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture(params=["small filesystem", "small files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "small files":
        if not hasattr(resource, "prlimit"):
            pytest.skip("the limit of another process can't be changed on this platform")
        yield SmallFiles(tmp_path)
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no filesystem can be mounted here ({error}); small files stand in for it")
    yield SmallFilesystem(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


Serve = Callable[[], Wire]


@pytest.fixture
def serve(disk: Disk) -> Iterator[Serve]:
    """Starts servers of the store on the small disk."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> Wire:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            SERVE,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "BYHEART_HOME": str(disk.home)},
            preexec_fn=disk.before_start,
        )
        processes.append(process)
        wire = Wire(process)
        wire.initialize()
        return wire

    yield start
    for process in processes:
        process.kill()
        with process:
            pass


def done(wire: Wire, tool: str, **arguments: Any) -> dict[str, Any]:
    result = wire.call(tool, **arguments)["result"]
    assert not result["isError"], result["content"][0]["text"]
    found: dict[str, Any] = result["structuredContent"]
    return found


def refusal(wire: Wire, tool: str, **arguments: Any) -> str:
    result = wire.call(tool, **arguments)["result"]
    assert result["isError"], result["structuredContent"]
    said: str = result["content"][0]["text"]
    return said


def note(number: int) -> str:
    """A text with a word of its own, every tenth longer than a small file may be."""
    length = 900 if number % 10 == 9 else 20
    return f"note zq{number:05}x of the log: " + "the weather did not change " * length


def fill(wire: Wire) -> tuple[dict[str, str], list[str]]:
    """Remember until nothing more is taken; the acknowledged ids by text, and the refused texts."""
    kept: dict[str, str] = {}
    refused: list[str] = []
    for number in range(2_000):
        result = wire.call("remember", text=note(number))["result"]
        if not result["isError"]:
            kept[note(number)] = result["structuredContent"]["id"]
            continue
        said = result["content"][0]["text"]
        assert said.startswith("the disk is full"), said
        assert "make room" in said
        refused.append(note(number))
        if len(refused) == 5:
            return kept, refused
    raise AssertionError("the disk never filled up")


def word(text: str) -> str:
    return text.split()[1]


def assert_found(wire: Wire, kept: dict[str, str]) -> None:
    texts = list(kept)
    for text in (texts[0], texts[len(texts) // 2], texts[-1]):
        assert kept[text] in [hit["id"] for hit in done(wire, "recall", query=word(text))["hits"]]


def export(home: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "byheart_server", "export", "--home", str(home)]
    written = subprocess.run(command, capture_output=True, check=True)
    return [json.loads(line) for line in written.stdout.splitlines()]


def assert_whole(home: Path, kept: dict[str, str], *later: str) -> None:
    """Every acknowledged memory is there once, and nothing else."""
    rows = export(home)
    assert len(rows) == len(kept) + len(later)
    assert {row["text"]: row["id"] for row in rows}.items() >= kept.items()
    assert {row["text"] for row in rows} == {*kept, *later}


def test_remembering_until_the_disk_is_full_loses_nothing(disk: Disk, serve: Serve) -> None:
    wire = serve()
    kept, refused = fill(wire)
    assert_found(wire, kept)
    assert_whole(disk.home, kept)

    while_full = serve()
    assert_found(while_full, kept)

    disk.make_room(wire.process)
    assert done(wire, "remember", text=refused[0])["status"] == "stored"
    assert done(wire, "remember", text=next(iter(kept)))["status"] == "duplicate"
    assert_found(wire, kept)
    assert wire.end() == 0
    assert_whole(disk.home, kept, refused[0])

    later = serve()
    assert done(later, "remember", text=refused[1])["status"] == "stored"
    assert_found(later, kept)
    print(f"\n{len(kept)} acknowledged and there, {len(refused)} refused and not there")


def test_recall_goes_on_and_what_it_could_not_log_can_be_judged_later(
    disk: Disk, serve: Serve
) -> None:
    wire = serve()
    kept = {note(number): done(wire, "remember", text=note(number))["id"] for number in range(3)}
    disk.exhaust(wire.process)

    found = done(wire, "recall", query=word(note(1)))
    judgement = {"recall_id": found["recall_id"], "useful": [kept[note(1)]]}
    assert found["hits"][0]["id"] == kept[note(1)]
    assert refusal(wire, "feedback", **judgement).startswith("the disk is full")
    assert refusal(wire, "forget", ids=[kept[note(0)]]).startswith("the disk is full")

    disk.make_room(wire.process)
    assert done(wire, "feedback", **judgement) == {"useful": 1, "not_useful": 0}
    assert_whole(disk.home, kept)
    assert wire.end() == 0


def test_reindex_that_finds_no_room_leaves_the_old_model_serving(
    disk: Disk, serve: Serve, other_model: str
) -> None:
    wire = serve()
    kept = {note(number): done(wire, "remember", text=note(number))["id"] for number in range(9)}
    disk.exhaust(wire.process)

    assert refusal(wire, "reindex", model=other_model).startswith("the disk is full")
    assert_found(wire, kept)

    disk.make_room(wire.process)
    assert done(wire, "reindex", model=other_model)["rows"] == len(kept)
    assert_found(wire, kept)
    assert_whole(disk.home, kept)


def test_import_says_how_far_it_came_and_ends_when_there_is_room(
    disk: Disk, serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    texts = [f"entry zq{number:05}x of the log" for number in range(MANY)]
    draw = random.Random(7)
    rows = [{"text": text, "metadata": {"raw": draw.randbytes(4_000).hex()}} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wire = serve()

    refused = byheart_import(path, disk)
    stored = export(disk.home)
    assert refused.returncode == 1
    assert refused.stderr.startswith("byheart: the disk is full")
    assert refused.stderr.count("\n") == 1
    assert (f"the first {len(stored):,} memories are stored" in refused.stderr) is bool(stored)
    assert [row["text"] for row in stored] == texts[: len(stored)]

    disk.make_room(wire.process)
    assert byheart_import(path, disk).stdout.startswith(f"stored {MANY - len(stored):,} memories")
    assert sorted(row["text"] for row in export(disk.home)) == texts


def byheart_import(path: Path, disk: Disk) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "byheart_server", "import", str(path), "--home", str(disk.home)],
        capture_output=True,
        text=True,
        preexec_fn=disk.before_start,
    )
