"""Real stores with the embedded model, and models that are another, held up, or not to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from byheart_store import MemoryStore
from byheart_store.models import Encoder, loading

HOLD = (
    "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
    "print('held', flush=True); sys.stdin.read()"
)


Fill = Callable[[Path], Awaitable[None]]
Filled = Callable[[Fill, Path], Awaitable[Path]]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Fills a home; what fills it runs once a session, and its work is copied from then on."""
    made: dict[Fill, Path] = {}

    async def at(fill: Fill, home: Path) -> Path:
        if fill not in made:
            first = tmp_path_factory.mktemp("filled") / "home"
            await fill(first)
            made[fill] = first
        return shutil.copytree(made[fill], home, dirs_exist_ok=True)

    return at


@pytest.fixture
async def store(home: Path, filled: Filled) -> AsyncIterator[MemoryStore]:
    """A new store."""
    async with await MemoryStore.open(await filled(nothing, home)) as opened:
        yield opened


async def nothing(home: Path) -> None:
    """Make a store that holds nothing yet."""
    async with await MemoryStore.open(home):
        pass


@pytest.fixture
async def wordless(home: Path) -> AsyncIterator[MemoryStore]:
    """A store whose model can't be had."""
    async with await MemoryStore.open(home, model="no/such-model") as opened:
        yield opened


@pytest.fixture
def held_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Models load only once the event is set."""
    go, load = threading.Event(), loading.load_encoder

    def held(*args: Any, **named: Any) -> Encoder:
        go.wait()
        return load(*args, **named)

    monkeypatch.setattr(loading, "load_encoder", held)
    yield go
    go.set()


@pytest.fixture
def locked(home: Path) -> Callable[[], AbstractContextManager[None]]:
    """Another process holds the write lock."""

    @contextmanager
    def held() -> Iterator[None]:
        home.mkdir(exist_ok=True)
        command = [sys.executable, "-c", HOLD, str(home / "write.lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline().strip() == b"held"
            yield
            process.stdin.close()

    return held


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that may only be read, by a user other than root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("rights work otherwise on this platform")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    yield folder
    if os.geteuid() != user:
        os.seteuid(user)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)
