"""From spawn to the first answers, beside servers and processes that do no more than they must."""

from __future__ import annotations

import pytest

from .bare import BareTable
from .figures import Figures
from .processes import EMPTY, SERVE, Process, bare_process
from .stores import Stores

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3_600)]

GREETINGS = 10
SPAWNS = 5


async def test_initialize_is_answered_nearly_as_fast_as_by_an_empty_server(
    figures: Figures, stores: Stores, sizes: tuple[int, ...]
) -> None:
    home = (await stores.of(min(sizes))).home
    ours, floors = [], []
    for _ in range(GREETINGS + 1):
        for command, found in ((SERVE, ours), (EMPTY, floors)):
            with Process(command, home) as process:
                process.initialize()
                found.append(process.age)
    # The first of each has written byte code.
    figures.record("spawn to initialize", None, "s", ours[1:], floors[1:], "empty MCPServer")
    figures.hold()


async def test_the_first_full_answer_waits_for_nothing_but_engine_and_model(
    figures: Figures, stores: Stores, size: int
) -> None:
    built = await stores.of(size)
    table = await BareTable.open(built.home)
    questions = built.questions(seed=5)
    ours, floors = [], []
    for _ in range(SPAWNS):
        with Process(SERVE, built.home) as process:
            process.initialize()
            process.full_recall(next(questions))
            ours.append(process.age)
        with bare_process(built.home, table, next(questions)) as process:
            process.answered()
            floors.append(process.age)
    figures.record(
        "spawn to first full answer", size, "s", ours, floors, "bare process: a query of each leg"
    )
    figures.hold()
