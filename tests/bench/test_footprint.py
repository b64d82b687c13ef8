"""What a serving process takes of memory, disk and processor, beside a bare one."""

from __future__ import annotations

import asyncio

import pytest

from .bare import BareTable
from .figures import Figures
from .processes import SERVE, Process, bare_process
from .stores import Stores

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3_600)]

RECALLS = 50
UNTIL_AT_REST = 3.0
"""Seconds in which what a server puts off is done: the log of recalls is written, say."""
IDLE = 5.0


async def test_memory_and_processor(figures: Figures, stores: Stores, size: int) -> None:
    built = await stores.of(size)
    table = await BareTable.open(built.home)
    questions = built.questions(seed=6)
    with (
        bare_process(built.home, table, next(questions)) as bare,
        Process(SERVE, built.home) as server,
    ):
        bare.answered()
        server.initialize()
        server.full_recall(next(questions))
        most = server.megabytes()
        for _ in range(RECALLS):
            server.recall(next(questions))
            most = max(most, server.megabytes())
        await asyncio.sleep(UNTIL_AT_REST)
        before = server.cpu_seconds()
        await asyncio.sleep(IDLE)
        spent = server.cpu_seconds() - before
        floor = [bare.megabytes()]
        name = "bare process: a query of each leg"
        figures.record("RSS while serving", size, "MB", [most], floor, name)
        figures.record("RSS when idle", size, "MB", [server.megabytes()], floor, name)
        figures.record("CPU of 5 idle seconds", size, "s", [spent])
    figures.hold()


async def test_disk(figures: Figures, stores: Stores, size: int) -> None:
    built = await stores.of(size)
    raw = [built.raw_megabytes]
    figures.record("disk", size, "MB", [built.disk_megabytes], raw, "texts and vectors as they are")
    figures.record("compaction after a bulk load", size, "s", [built.seconds_to_compact])
    figures.hold()
