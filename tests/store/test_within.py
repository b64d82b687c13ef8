"""A view of some namespaces: what lies outside is not there, and origins can't be forged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from byheart_store import (
    AccessDenied,
    ByHeartError,
    Filter,
    InvalidInput,
    MemoryStore,
    NewMemory,
    Origin,
    UnknownMemory,
    UnknownRecall,
)

ANN = Origin(client="editor 1.0", token="ann")
BEN = Origin(client="browser 2.0", token="ben")


@pytest.fixture
def ann(store: MemoryStore) -> MemoryStore:
    return store.within(["ann", "shared"], ANN)


@pytest.fixture
def ben(store: MemoryStore) -> MemoryStore:
    return store.within(["ben"], BEN)


async def refusal(access: object) -> tuple[type[Exception], str]:
    with pytest.raises(ByHeartError) as caught:
        await access  # type: ignore[misc]
    return type(caught.value), str(caught.value)


async def test_a_memory_goes_to_the_first_namespace_unless_it_names_another(
    store: MemoryStore, ann: MemoryStore
) -> None:
    first = await ann.remember(NewMemory(text="The safe opens with 4417."))
    second = await ann.remember(NewMemory(text="The office has a garden.", namespace="shared"))
    assert (await store.get(first.id)).namespace == "ann"
    assert (await store.get(second.id)).namespace == "shared"


async def test_origins_are_stamped_whatever_the_memory_says(ann: MemoryStore) -> None:
    receipt = await ann.remember(NewMemory(text="I am Ben.", client="browser 2.0", token="ben"))
    memory = await ann.get(receipt.id)
    assert (memory.client, memory.token) == ("editor 1.0", "ann")


async def test_nothing_of_another_is_found(ann: MemoryStore, ben: MemoryStore) -> None:
    hidden = await ann.remember(NewMemory(text="The safe opens with 4417."))
    found = await ben.recall("How does the safe open?")
    assert (found.hits, found.no_match) == ((), True)
    assert await refusal(ben.get(hidden.id)) == (
        UnknownMemory,
        f"no memory has the id {hidden.id!r}; take the id from a recall",
    )
    assert [memory async for memory in ben.memories()] == []
    assert (await ben.forget([hidden.id])).missing == (hidden.id,)
    assert (await ben.forget(where=Filter(session="none"))).count == 0
    assert (await ann.get(hidden.id)).text == "The safe opens with 4417."


@pytest.mark.parametrize("name", ["ann", "nobody's"])
async def test_a_namespace_that_is_not_open_is_refused_whether_or_not_it_exists(
    ann: MemoryStore, ben: MemoryStore, name: str
) -> None:
    await ann.remember(NewMemory(text="The safe opens with 4417."))
    told = AccessDenied, f"namespace: {name!r} is not open here; leave it out, or use 'ben'"
    elsewhere = Filter(namespaces=(name,))
    for access in (
        ben.remember(NewMemory(text="hello", namespace=name)),
        ben.recall("the safe", where=elsewhere),
        ben.forget(where=elsewhere),
    ):
        assert await refusal(access) == tuple(told)


async def test_what_another_remembered_can_not_be_replaced(
    ann: MemoryStore, ben: MemoryStore
) -> None:
    hidden = await ann.remember(NewMemory(text="The safe opens with 4417."))
    for name in (hidden.id, "no-such-id"):
        kind, told = await refusal(ben.remember(NewMemory(text="It is empty.", replaces=name)))
        assert kind is UnknownMemory
        assert told == f"replaces: no memory has the id {name!r}; take the id from a recall"
    assert (await ann.get(hidden.id)).replaced_by is None


async def test_a_replacement_stays_in_the_namespace_of_what_it_replaces(ann: MemoryStore) -> None:
    old = await ann.remember(NewMemory(text="The office has a garden.", namespace="shared"))
    new = await ann.remember(NewMemory(text="The garden is gone.", replaces=old.id))
    assert (await ann.get(new.id)).namespace == "shared"


async def test_recalls_of_another_can_not_be_judged(ann: MemoryStore, ben: MemoryStore) -> None:
    hidden = await ann.remember(NewMemory(text="The safe opens with 4417."))
    recall = await ann.recall("How does the safe open?")
    kind, told = await refusal(ben.feedback(recall.recall_id, [hidden.id]))
    assert kind is UnknownRecall
    assert told == (await refusal(ben.feedback("nothing", ["x"])))[1].replace(
        "nothing", recall.recall_id
    )
    assert (await ann.feedback(recall.recall_id, [hidden.id])).useful == 1
    assert (await ben.labels(), await ben.logged_recalls()) == ([], [])
    assert len(await ann.labels()) == len(await ann.logged_recalls()) == 1


async def test_a_recall_of_the_whole_store_is_not_a_namespaces(
    store: MemoryStore, ann: MemoryStore
) -> None:
    receipt = await ann.remember(NewMemory(text="The safe opens with 4417."))
    recall = await store.recall("How does the safe open?")
    assert (await refusal(ann.feedback(recall.recall_id, [receipt.id])))[0] is UnknownRecall


async def test_counts_are_its_own(store: MemoryStore, ann: MemoryStore, ben: MemoryStore) -> None:
    for number in range(3):
        await ann.remember(NewMemory(text=f"note {number}"))
    await ann.recall("note")
    await ben.remember(NewMemory(text="hello"))
    stats = await ben.stats()
    assert (stats.memories, stats.passages, stats.recalls) == (1, 1, 0)
    assert (dict(stats.namespaces), stats.bytes) == ({"ben": 1}, None)
    assert (await store.stats()).memories == 4


async def test_the_same_text_and_key_of_two_callers_are_two_memories(
    ann: MemoryStore, ben: MemoryStore
) -> None:
    told = NewMemory(text="hello", key="first")
    one, two = await ann.remember(told), await ben.remember(told)
    assert (one.status, two.status) == ("stored", "stored")
    assert one.id != two.id


async def test_ids_are_the_stores_to_give(ann: MemoryStore) -> None:
    assert (await refusal(ann.remember(NewMemory(text="hello", id="m1"))))[0] is AccessDenied


async def test_what_concerns_the_whole_store_is_refused(ann: MemoryStore) -> None:
    for access in (
        ann.reindex(),
        ann.prepare("x"),
        ann.discard("x"),
        ann.rollback(),
        ann.models(),
        ann.tune(None),
        ann.purge(),
        ann.forget(["x"], purge=True),
        ann.vectors(["x"]),
    ):
        assert (await refusal(access))[0] is AccessDenied


async def test_a_view_of_nothing_is_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidInput, match="name at least one"):
        store.within([], ANN)


async def test_a_view_of_everything_reaches_everything(
    store: MemoryStore, ann: MemoryStore
) -> None:
    everything = store.within(None, BEN)
    receipt = await ann.remember(NewMemory(text="The safe opens with 4417."))
    assert (await everything.get(receipt.id)).token == "ann"
    assert (await everything.stats()).bytes is not None


async def test_chores_that_a_view_begins_end_with_the_store(home: Path) -> None:
    store = await MemoryStore.open(home, purge_after_days=30)
    store.within(["ann"], ANN).load_model()
    await store.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_view_that_is_closed_leaves_the_store_open(
    store: MemoryStore, ann: MemoryStore
) -> None:
    async with ann:
        receipt = await ann.remember(NewMemory(text="The safe opens with 4417."))
    assert (await store.get(receipt.id)).namespace == "ann"
