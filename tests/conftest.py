"""What all tests share: repeatable examples, a home, a second model, commands."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from byheart_server.__main__ import run
from byheart_store.models import EMBEDDED, cores, declare
from byheart_store.tables import indexes

from . import encoders
from .stores import Filled, filled, held_model, locked, read_only, store, wordless  # noqa: F401

encoders.share()

ONE_CORE_EACH = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""There is a worker a core, so each has threads for one."""

settings.register_profile("quick", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("repeatable", derandomize=True, deadline=None)  # CI's: 100 examples
settings.register_profile("exploring", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def examples(in_full: int) -> settings:
    """So many examples in CI, and a share of them in `make test`."""
    return settings(deadline=None, max_examples=in_full * settings().max_examples // 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--indexed-from",
        type=int,
        metavar="ROWS",
        help="let stores of so few rows be indexed and searched as large ones are",
    )


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores: now and then a test waits for a process or a timer."""
    return cores() + 1


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background process ignores it, and so would all that tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:
        for name in ONE_CORE_EACH:  # read when numpy and torch are imported, here and in children
            os.environ.setdefault(name, "1")
    indexes.INDEXED_FROM = config.getoption("--indexed-from") or indexes.INDEXED_FROM


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    encoders.measuring = any(item.iter_markers("bench")) or any(item.iter_markers("alone"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="session")
def first_other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(EMBEDDED, tmp_path_factory.mktemp("model") / "other")
    declare(folder, pooling="cls")
    return folder


@pytest.fixture
def other_model(first_other_model: Path, tmp_path: Path) -> str:
    """A folder whose vectors have the embedded model's dimension and another meaning.

    Its JSON may be changed; the ONNX file is one for all tests.
    """
    folder = shutil.copytree(first_other_model, tmp_path / "other", ignore=_is_onnx)
    (folder / "model.onnx").hardlink_to(first_other_model / "model.onnx")
    return str(folder)


_is_onnx = shutil.ignore_patterns("*.onnx")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Outcome]


@pytest.fixture
def command_at(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Call]:
    """Commands of one home, called in this process; `stdin` is what they are piped."""

    def at(home: Path) -> Call:
        monkeypatch.setenv("BYHEART_HOME", str(home))
        for name in ("BYHEART_URI", "BYHEART_MODEL", "BYHEART_LOG_RECALLS"):
            monkeypatch.delenv(name, raising=False)
        return call

    def call(*arguments: str | Path, stdin: str = "") -> Outcome:
        wire = io.BufferedReader(io.BytesIO(stdin.encode()))  # type: ignore[type-var]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(wire, encoding="utf-8"))
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return at
