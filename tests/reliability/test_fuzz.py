"""Fifty thousand hostile calls through the real protocol, against a model of the store."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from byheart_store import MemoryStore

from .fuzz_calls import Call, calls
from .fuzz_session import Session

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1_200)]

CALLS = int(os.environ.get("FUZZ_CALLS", "50000"))
BATCH = 25
CHECKPOINT = 2_500
"""So many calls from one comparison of the whole store with the model to the next."""


async def content(home: Path) -> tuple[dict[str, Any], dict[Any, bool]]:
    """All memories and labels, read by another process than the server."""
    async with await MemoryStore.open(home) as store:
        memories = {memory.id: memory.as_dict() async for memory in store.memories()}
        labels = await store.labels()
    return memories, {(one.query, one.namespace, one.memory_id): one.useful for one in labels}


def test_fuzzed_calls_never_crash_the_server_and_leave_what_the_model_says(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log.txt"
    pipe = subprocess.PIPE
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "byheart_server", "serve"],
            stdin=pipe,
            stdout=pipe,
            stderr=errors,
            env={**os.environ, "BYHEART_HOME": str(home), "BYHEART_DURABILITY": "os"},
        )
    with process:
        try:
            fuzz(Session(process), home)
        except BaseException as error:
            process.kill()
            error.add_note(log.read_text(errors="replace")[-5_000:])
            raise
    assert "Traceback" not in log.read_text(errors="replace")


def fuzz(session: Session, home: Path) -> None:
    """Play all calls, and compare what the store holds at every checkpoint and at the end."""
    began = time.perf_counter()
    session.initialize()

    @settings(
        max_examples=CALLS // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(calls, min_size=BATCH, max_size=BATCH))
    def play(batch: list[Call]) -> None:
        for call in batch:
            session.play(call)
        if session.counts.total() % CHECKPOINT < BATCH:
            compare(session, home)

    play()
    compare(session, home)
    session.end()
    seconds = time.perf_counter() - began
    print(f"\n{session.counts.total():,} calls in {seconds:.0f} s: {dict(session.counts)}")
    print("crashes 0, protocol violations 0, divergences 0")
    assert session.counts.total() >= CALLS


def compare(session: Session, home: Path) -> None:
    """Check that the store holds what the model says."""
    session.drain()
    session.model.check_all(*asyncio.run(content(home)))
