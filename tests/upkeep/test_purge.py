"""Forgetting leaves nothing to be found, and a purge leaves no byte of it under the home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from byheart_store import Filter, MemoryStore, NewMemory, StoreUnavailable
from byheart_store.home import exclusive
from byheart_store.tables.maintenance import Maintenance

from ..conftest import Filled
from ..peeking import description_at, do_chores

SECRET = "Quetzalcoatlus4417"
TEXT = f"The bicycle cellar opens with {SECRET}."


def traces(home: Path, text: str = SECRET) -> list[str]:
    """The files that hold the text, its lower case, or its first or last ten characters."""
    sought = [part.encode() for part in (text, text.lower(), text[:10].lower(), text[-10:].lower())]
    files = [path for path in home.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(home))
        for path in files
        if any(part in content for content in [path.read_bytes()] for part in sought)
    ]


@pytest.fixture
async def told(home: Path, filled: Filled) -> AsyncIterator[MemoryStore]:
    """A secret in a conversation, asked for and judged, among other memories."""
    async with await MemoryStore.open(await filled(tell, home)) as store:
        await store.model_ready()
        yield store


async def tell(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        await _tell(home, store)


async def _tell(home: Path, store: MemoryStore) -> None:
    await store.remember_many(
        [NewMemory(text=f"Turn {number} is about tulips.", session="talk") for number in range(70)]
    )
    secret = await store.remember(NewMemory(text=TEXT, session="talk", speaker="Lena"))
    await store.remember(NewMemory(text="I will write it down.", session="talk"))
    await store.remember(NewMemory(text=f"{TEXT} {'And so on. ' * 300}", session="long"))
    recall = await store.recall(f"What is {SECRET} for?")
    await store.feedback(recall.recall_id, [secret.id])
    other = await store.recall("Which turn is about tulips?", limit=3)
    await store.feedback(other.recall_id, [other.hits[0].id])
    for folder in ("cache/retrain", "cache/eval/store", "staging/1"):
        (home / folder).mkdir(parents=True)
        (home / folder / "labels.jsonl").write_text(TEXT)
    await store.reindex()


async def secrets(store: MemoryStore) -> list[str]:
    return [memory.id async for memory in store.memories() if SECRET in memory.text]


async def test_what_is_forgotten_is_not_found_through_its_neighbours(told: MemoryStore) -> None:
    await told.forget(await secrets(told))
    found = await told.recall(SECRET, mode="text")
    assert found.no_match
    assert all(hit.explanation.text_score is None for hit in found.hits)


async def test_the_turn_before_is_still_searched_with_its_followers(told: MemoryStore) -> None:
    await told.forget(await secrets(told))
    found = await told.recall("Turn 69", mode="text", limit=2)
    assert "I will write it down." in [hit.text for hit in found.hits]


async def test_a_purge_leaves_no_byte(told: MemoryStore, home: Path) -> None:
    assert traces(home)
    forgotten = await told.forget(await secrets(told), purge=True)
    assert forgotten.count == 2
    assert traces(home) == []


async def test_a_purge_keeps_all_else(told: MemoryStore, home: Path) -> None:
    await told.forget(await secrets(told), purge=True)
    stats = await told.stats()
    assert (stats.memories, stats.without_vector) == (71, 0)
    assert [recall.query for recall in await told.logged_recalls()] == [
        "Which turn is about tulips?"
    ]
    assert len(await told.labels()) == 1
    found = await told.recall("Turn 33 about tulips")
    assert found.hits[0].text == "Turn 33 is about tulips."


async def test_a_purge_counts_what_went(told: MemoryStore) -> None:
    await told.forget(await secrets(told))
    purged = await told.purge()
    assert (purged.recalls, purged.labels, purged.kept) == (1, 0, ())


async def test_a_recall_that_found_it_by_the_way_stays_without_it(store: MemoryStore) -> None:
    await store.remember(NewMemory(text="Ben grows tulips in the garden behind the house."))
    other = await store.remember(NewMemory(text="Lena owns a red bicycle."))
    recall = await store.recall("What does Ben grow in the garden?")
    assert len(recall.hits) == 2
    await store.feedback(recall.recall_id, [recall.hits[0].id], [other.id])
    await store.forget([other.id], purge=True)
    (logged,) = await store.logged_recalls()
    assert (logged.ids, len(logged.scores)) == ((recall.hits[0].id,), 1)
    assert [label.memory_id for label in await store.labels()] == [recall.hits[0].id]


async def test_a_training_under_way_keeps_its_files(told: MemoryStore, home: Path) -> None:
    await told.forget(await secrets(told))
    with exclusive(home / "retrain.lock", "busy"):
        assert (await told.purge()).kept == ("cache/retrain",)
    assert (home / "cache" / "retrain").is_dir()


async def test_what_was_set_aside_stays_and_is_named(told: MemoryStore, home: Path) -> None:
    former = home / "set-aside" / "1" / "former.txt"
    former.parent.mkdir(parents=True)
    former.write_text("a former store")
    assert (await told.purge()).kept == ("set-aside",)
    assert former.exists()


async def test_a_purge_that_fails_is_due_again(
    told: MemoryStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    await told.forget(await secrets(told))
    with monkeypatch.context() as failing:
        failing.setattr(Maintenance, "tidy", fails)
        with pytest.raises(StoreUnavailable):
            await told.purge()
    async with await MemoryStore.open(home, purge_after_days=0) as store:
        await do_chores(store)
    assert traces(home) == []


async def test_a_recall_that_is_logged_late_brings_nothing_back(
    told: MemoryStore, home: Path, locked: Callable[[], AbstractContextManager[None]]
) -> None:
    before = await told.logged_recalls()
    async with await MemoryStore.open(home, patience=0.1) as other:
        with locked():
            await other.recall(f"What is {SECRET} for?")
            assert await other.logged_recalls() == before
        await told.forget(await secrets(told), purge=True)
    assert traces(home) == []


async def test_servers_that_have_the_store_open_go_on(told: MemoryStore, home: Path) -> None:
    async with await MemoryStore.open(home) as other:
        await other.recall("tulips")
        await told.forget(await secrets(told), purge=True)
        assert (await other.recall("Turn 33")).hits[0].text == "Turn 33 is about tulips."


@pytest.mark.parametrize(("days", "is_left"), [(0, False), (30, True), (None, True)])
async def test_what_was_forgotten_is_purged_when_it_is_due(
    told: MemoryStore, home: Path, days: float | None, is_left: bool
) -> None:
    await told.forget(where=Filter(session="talk"))
    await told.forget(where=Filter(session="long"))
    async with await MemoryStore.open(home, purge_after_days=days) as store:
        await do_chores(store)
    assert (await description_at(home)).forgotten_since is not None or not is_left
    assert bool(traces(home / "db")) is is_left


async def test_a_forgetting_is_dated_by_its_first(told: MemoryStore, home: Path) -> None:
    first, second = await secrets(told)
    await told.forget([first])
    since = (await description_at(home)).forgotten_since
    await told.forget([second])
    assert since is not None
    assert (await description_at(home)).forgotten_since == since
    await told.purge()
    assert (await description_at(home)).forgotten_since is None
