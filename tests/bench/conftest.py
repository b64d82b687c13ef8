"""The sizes that are measured, the stores of these sizes, and what is told in the end.

BYHEART_BENCH_SIZES names the sizes, BYHEART_BENCH_OUTPUT the folder of the results.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .figures import Conditions, Figure, Figures, table, write_json
from .quick_model import write_quick_model
from .stores import Stores

ROOT = Path(__file__).parents[2]
OUTPUT = Path(os.environ.get("BYHEART_BENCH_OUTPUT", ROOT / ".bench"))
SIZES = tuple(
    int(size) for size in os.environ.get("BYHEART_BENCH_SIZES", "50,10000,100000").split(",")
)

SHEET: list[Figure] = []
CONDITIONS = Conditions()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `size` is run at every one that is measured."""
    if "size" in metafunc.fixturenames:
        metafunc.parametrize("size", SIZES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not SHEET:
        return
    from .pictures import draw_costs

    draw_costs(OUTPUT / "costs.png", SHEET)
    terminalreporter.section("figures")
    terminalreporter.write_line("\n".join(table(SHEET)))
    terminalreporter.write_line(f"written to {OUTPUT / 'figures.json'} and costs.png")


@pytest.fixture
def figures() -> Iterator[Figures]:
    """What this test measures is written even if it fails, or a later one never ends."""
    yield Figures(SHEET)
    write_json(OUTPUT / "figures.json", SHEET, CONDITIONS)


@pytest.fixture(scope="session")
def sizes() -> tuple[int, ...]:
    return SIZES


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A folder for what is gigabytes large, which pytest would keep."""
    for left in OUTPUT.glob("stores.*"):
        if not psutil.pid_exists(int(left.suffix[1:])):
            shutil.rmtree(left)  # of a session that was killed
    folder = OUTPUT / f"stores.{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stores(ground: Path) -> Stores:
    return Stores(ground)


@pytest.fixture(scope="session")
def quick_model(ground: Path) -> Path:
    return write_quick_model(ground / "quick")
