"""What a recall sees: always the latest commit, whichever handle made it."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byheart_store import Filter, MemoryStore, NewMemory
from byheart_store.recall import snapshot_advance
from byheart_store.recall.snapshot import Snapshot
from byheart_store.recall.snapshots import Snapshots, take_snapshot
from byheart_store.tables.database import Database

from ..peeking import database_at

Step: TypeAlias = tuple[str, int, int]


@pytest.fixture
async def handles(home: Path) -> AsyncIterator[tuple[MemoryStore, MemoryStore]]:
    """Two handles on one store; the second has recalled already."""
    async with await MemoryStore.open(home) as one, await MemoryStore.open(home) as other:
        await one.remember_many([note(position) for position in range(6)])
        await found(other, 0)
        yield one, other


def rare_word(number: int) -> str:
    """A word for a number that no stemmer shortens and no other number shares."""
    return "quo" + "".join("bdfgkmpvxz"[int(digit)] for digit in f"{number:03}") + "ak"


def note(number: int, replaces: int | None = None) -> NewMemory:
    return NewMemory(
        id=f"note-{number}",
        text=f"The word {rare_word(number)} was heard in the harbour.",
        replaces=None if replaces is None else f"note-{replaces}",
    )


async def found(store: MemoryStore, number: int) -> list[str]:
    """The memories that hold the number's word."""
    recall = await store.recall(rare_word(number), mode="text", log=False)
    return [hit.id for hit in recall.hits]


async def all_found(store: MemoryStore) -> set[str]:
    recall = await store.recall("a word in the harbour", limit=1_000, log=False)
    return {hit.id for hit in recall.hits}


Handles: TypeAlias = tuple[MemoryStore, MemoryStore]


async def test_what_another_handle_remembers_is_recalled(handles: Handles) -> None:
    await handles[0].remember(note(7))
    assert await found(handles[1], 7) == ["note-7"]


async def test_what_another_handle_forgets_is_not_recalled(handles: Handles) -> None:
    await handles[0].forget(["note-0"])
    assert await found(handles[1], 0) == []
    assert await all_found(handles[1]) == {f"note-{position}" for position in range(1, 6)}


async def test_what_another_handle_replaces_yields_to_its_successor(handles: Handles) -> None:
    await handles[0].remember(note(8, replaces=0))
    assert await found(handles[1], 0) == []
    assert await found(handles[1], 8) == ["note-8"]


async def test_compaction_by_another_handle_changes_no_answer(handles: Handles) -> None:
    one, other = handles
    await one.forget(["note-2"])
    before = await other.recall("quo heard in the harbour", log=False)
    await one.reindex()
    after = await other.recall("quo heard in the harbour", log=False)
    assert after.hits == before.hits


async def test_another_model_of_another_handle_is_followed(
    handles: Handles, other_model: str
) -> None:
    one, other = handles
    await one.reindex(other_model)
    query = f"Where was {rare_word(3)} heard?"
    here, there = [await store.recall(query, log=False) for store in handles]
    assert here.hits == there.hits
    assert (await other.stats()).model == other_model


async def test_a_filter_is_asked_anew_after_a_commit(handles: Handles) -> None:
    where = Filter(tags=("new",))
    assert not (await handles[1].recall("harbour", where=where, log=False)).hits
    await handles[0].remember(NewMemory(id="tagged", text="A harbour.", tags=("new",)))
    hits = (await handles[1].recall("harbour", where=where, log=False)).hits
    assert [hit.id for hit in hits] == ["tagged"]


async def test_recalls_during_writes_see_one_commit_or_the_next(handles: Handles) -> None:
    one, other = handles
    writing = asyncio.create_task(one.remember_many([note(position) for position in range(10, 90)]))
    while not writing.done():
        assert await found(other, 1) == ["note-1"]
        assert len(await all_found(other)) in (6, 86)
    assert await found(other, 89) == ["note-89"]


class Expectation:
    """What two handles on one store have to find after any steps."""

    def __init__(self, handles: Handles) -> None:
        self.handles = handles
        self.living: list[int] = []
        self.gone: list[int] = []
        self.next = 0

    async def take(self, step: Step) -> None:
        kind, handle, choice = step
        await getattr(self, kind)(self.handles[handle], choice)

    async def remember(self, store: MemoryStore, choice: int) -> None:
        await store.remember_many(
            [note(self.next + position) for position in range(1 + choice % 3)]
        )
        for _ in range(1 + choice % 3):
            self._lives()

    async def replace(self, store: MemoryStore, choice: int) -> None:
        if self.living:
            old = self.living.pop(choice % len(self.living))
            await store.remember(note(self.next, replaces=old))
            self.gone.append(old)
            self._lives()

    async def forget(self, store: MemoryStore, choice: int) -> None:
        if self.living:
            number = self.living.pop(choice % len(self.living))
            assert (await store.forget([f"note-{number}"])).count == 1
            self.gone.append(number)

    async def recall(self, store: MemoryStore, choice: int) -> None:
        if self.living:
            number = self.living[choice % len(self.living)]
            assert await found(store, number) == [f"note-{number}"]
            hits = (await store.recall(rare_word(number), limit=1, log=False)).hits
            assert [hit.id for hit in hits] == [f"note-{number}"]

    async def miss(self, store: MemoryStore, choice: int) -> None:
        if self.gone:
            assert await found(store, self.gone[choice % len(self.gone)]) == []

    async def recall_all(self, store: MemoryStore, choice: int) -> None:
        assert await all_found(store) == {f"note-{number}" for number in self.living}

    async def compact(self, store: MemoryStore, choice: int) -> None:
        await store.reindex()

    def _lives(self) -> None:
        self.living.append(self.next)
        self.next += 1


kinds = ["remember", "replace", "forget", "recall", "recall", "miss", "recall_all", "compact"]
steps = st.lists(
    st.tuples(st.sampled_from(kinds), st.integers(0, 1), st.integers(0, 99)),
    min_size=25,
    max_size=35,
)


@settings(max_examples=1 + settings().max_examples // 50, suppress_health_check=list(HealthCheck))
@given(steps)
def test_two_handles_agree_after_any_steps(taken: list[Step]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            async with await MemoryStore.open(home) as one, await MemoryStore.open(home) as other:
                expectation = Expectation((one, other))
                for step in [*taken, ("recall_all", 0, 0), ("recall_all", 1, 0)]:
                    await expectation.take(step)

    asyncio.run(play())


async def test_a_snapshot_that_follows_commits_is_as_one_read_anew(
    home: Path, handles: Handles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_advance, "_MOST_FRESH", 6)
    async with database_at(home) as database:
        await follow(handles[0], database)


async def follow(one: MemoryStore, database: Database) -> None:
    """Take many steps, and compare the snapshots of each."""
    draw, versions, snapshots = random.Random(3), [], Snapshots(database)
    living = [f"note-{position}" for position in range(6)]
    for number in range(100, 140):
        kind = draw.choice(["remember", "remember", "replace", "forget", "compact"])
        new = NewMemory(
            id=f"note-{number}",
            text=f"The word {rare_word(number)} was heard. " * draw.choice([1, 1, 90]),
            namespace=draw.choice(["a", "b"]),
            session=draw.choice([None, "s", "t"]),
        )
        if kind == "compact":
            await one.reindex()
        elif kind == "forget":
            await one.forget([living.pop(draw.randrange(len(living)))])
        else:
            old = living.pop() if kind == "replace" else None
            await one.remember(replace(new, replaces=old))
            living.append(new.id or "")
        version, description = await database.described()
        versions.append(version)
        column = description.active
        await agree(await snapshots.at(version, column), database, version, column)
    back = versions[-1] - 1
    await agree(await snapshots.at(back, column), database, back, column)


async def agree(followed: Snapshot, database: Database, version: int, column: str | None) -> None:
    anew = await take_snapshot(await database.memories_at(version), version, column)
    assert followed.keys.to_pylist() == anew.keys.to_pylist()
    for name in ("first", "sessions", "moments", "replaced", "vectors", "embedded", "positions"):
        np.testing.assert_array_equal(getattr(followed, name), getattr(anew, name), name)
