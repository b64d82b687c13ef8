"""Eight processes at work on one home, killed without warning, again and again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from byheart_store import MemoryStore
from byheart_store.models.passages import EMBEDDED

from ..peeking import description_at, do_chores

pytestmark = [pytest.mark.reliability, pytest.mark.alone, pytest.mark.timeout(1_500)]

PROCESSES = 8
KILLS = 200
LONGEST_BETWEEN_KILLS = 3.0
WORKER = Path(__file__).with_name("worker.py")


@dataclass
class Ledger:
    """What all processes have said, dead or alive."""

    stored: dict[str, str] = field(default_factory=dict)
    forgetting: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    contradictions: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for_words(self, count: int, seconds: float) -> None:
        """Let the processes get so much done, or take so long."""
        wanted, deadline = self.counts.total() + count, time.monotonic() + seconds
        while self.counts.total() < wanted and time.monotonic() < deadline:
            time.sleep(0.01)

    def note(self, line: str) -> None:
        what, key, memory_id = json.loads(line)
        with self.lock:
            self.counts[what] += 1
            if what == "stored":
                if self.stored.setdefault(key, memory_id) != memory_id:
                    self.contradictions.append(f"{key!r}: two ids")
            elif what == "forgetting":
                self.forgetting.add(memory_id)
            elif what == "forgotten":
                self.forgotten.add(memory_id)


class Life:
    """One process, from its start to its kill."""

    def __init__(self, home: Path, number: int, models: Iterable[str], ledger: Ledger) -> None:
        command = [sys.executable, str(WORKER), str(home), f"process {number}", *models]
        pipe = subprocess.PIPE
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env)
        self.words = 0
        self.errors = ""
        self._listeners = [
            threading.Thread(target=self._listen, args=(ledger,)),
            threading.Thread(target=self._read_errors),
        ]
        for listener in self._listeners:
            listener.start()

    def _listen(self, ledger: Ledger) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.endswith("\n"):  # a kill may cut the last one off
                ledger.note(line)
                self.words += 1

    def _read_errors(self) -> None:
        assert self.process.stderr
        self.errors = self.process.stderr.read()

    @property
    def is_at_work(self) -> bool:
        return self.words > 1

    def kill(self) -> str:
        """End it, and return what it had to complain of."""
        died = self.process.poll()
        self.process.kill()
        for listener in self._listeners:
            listener.join()
        with self.process:  # closes the pipes and reaps
            pass
        return "" if died is None else f"ended by itself with {died}: {self.errors[-2_000:]}"


def kill_again_and_again(home: Path, models: list[str], ledger: Ledger) -> list[str]:
    """Keep the processes alive and kill one after the other; returns their complaints."""
    draw = random.Random(5)
    born = 0
    lives: list[Life] = []
    complaints: list[str] = []
    for kill in range(KILLS):
        while len(lives) < PROCESSES:
            lives.append(Life(home, born, models, ledger))
            born += 1
        ledger.wait_for_words(draw.randrange(20), LONGEST_BETWEEN_KILLS)
        time.sleep(draw.uniform(0, 0.1))
        at_work = [life for life in lives if life.is_at_work]
        # One in five dies while it is still starting.
        victims = lives if kill % 5 == 0 else at_work
        while not victims:
            time.sleep(0.05)
            victims = [life for life in lives if life.is_at_work or life.process.poll() is not None]
        victim = draw.choice(victims)
        lives.remove(victim)
        complaints.append(victim.kill())
        if kill % 20 == 19:
            print(f"{kill + 1} kills, {dict(ledger.counts)}", flush=True)
    complaints += [life.kill() for life in lives]
    return [complaint for complaint in complaints if complaint]


async def test_killed_processes_lose_nothing_and_bring_nothing_back(
    tmp_path: Path, other_model: str
) -> None:
    ledger = Ledger()
    home = tmp_path / "home"
    complaints = kill_again_and_again(home, [str(EMBEDDED), other_model], ledger)

    async with await MemoryStore.open(home) as store:
        await do_chores(store)
        texts = Counter([memory.text async for memory in store.memories()])
        ids = {memory.id async for memory in store.memories()}
        stats = await store.stats()
        pending = (await description_at(home)).pending
        labels = await store.labels()

    kept = {key: name for key, name in ledger.stored.items() if name not in ledger.forgetting}
    lost = {key for key, name in kept.items() if name not in ids}
    twice = {text for text, count in texts.items() if count > 1}
    back = ledger.forgotten & ids
    in_doubt = ledger.forgetting - ledger.forgotten
    print(
        f"\nkills {KILLS}, acknowledged {len(ledger.stored)}, present {len(ids)}, "
        f"lost {len(lost)}, twice {len(twice)}, forgotten {len(ledger.forgotten)}, "
        f"back {len(back)}, killed while forgetting {len(in_doubt)}, labels {len(labels)}\n"
        f"{dict(ledger.counts)}"
    )
    assert complaints == []
    assert (ledger.contradictions, lost, twice, back) == ([], set(), set(), set())
    assert (stats.without_vector, pending) == (0, None)
    assert ledger.counts["forgotten"] > KILLS / 4
    assert min(ledger.counts[what] for what in ("compacted", "switched", "judged")) > 0
