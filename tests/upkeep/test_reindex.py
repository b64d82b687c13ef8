from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from byheart_store import (
    Hit,
    MemoryStore,
    ModelMismatch,
    ModelUnavailable,
    NewMemory,
    StoreBusy,
    StoreUnavailable,
)
from byheart_store.home import exclusive
from byheart_store.models import loading
from byheart_store.upkeep.reindexing import Reindexer

from ..peeking import database_at, description_at, do_chores

PLACES = ("harbour", "library", "bakery", "museum", "stadium", "garden", "station", "market")


async def fill(store: MemoryStore, count: int = 40) -> list[str]:
    texts = [f"Note {n}: Ana went to the {PLACES[n % 8]} on day {n}." for n in range(count)]
    receipts = await store.remember_many([NewMemory(text=text) for text in texts])
    return [receipt.id for receipt in receipts]


async def best(store: MemoryStore, query: str = "Ana went to the bakery") -> Hit:
    return (await store.recall(query, mode="vector", log=False)).hits[0]


def cosine_by(model: str | None, hit: Hit, query: str, cache: Path) -> float:
    """What the cosine has to be if query and memory were embedded by this model."""
    loaded = loading.load_encoder(model, cache_dir=cache)
    return float(loaded.encode_query(query) @ loaded.encode_passages([hit.memory.text])[0])


async def test_reindex_switches_to_another_model(
    store: MemoryStore, other_model: str, tmp_path: Path
) -> None:
    await fill(store)
    query = "Ana went to the bakery"
    old = await best(store, query)
    done = await store.reindex(other_model)
    new = await best(store, query)
    assert (done.model, done.rows) == (other_model, 40)
    assert old.explanation.cosine == pytest.approx(cosine_by(None, old, query, tmp_path), abs=1e-4)
    assert new.explanation.cosine == pytest.approx(
        cosine_by(other_model, new, query, tmp_path), abs=1e-4
    )
    assert old.explanation.cosine != pytest.approx(new.explanation.cosine, abs=1e-3)


async def test_the_model_is_kept_when_the_store_is_opened_again(
    home: Path, other_model: str
) -> None:
    async with await MemoryStore.open(home) as store:
        await fill(store, 3)
        await store.reindex(other_model)
    async with await MemoryStore.open(home) as store:
        assert (await best(store)).explanation.cosine
        assert (await store.stats()).model == other_model
        assert (await store.stats()).without_vector == 0


async def test_reindex_back_fills_only_what_is_missing(
    store: MemoryStore, other_model: str
) -> None:
    await fill(store, 10)
    await store.reindex(other_model)
    await store.remember(NewMemory(text="one more"))
    assert (await store.reindex("all-MiniLM-L6-v2")).rows == 1
    assert (await store.stats()).model == "all-MiniLM-L6-v2"


async def test_reindex_without_anything_to_do_embeds_nothing(store: MemoryStore) -> None:
    await fill(store, 3)
    assert (await store.reindex()).rows == 0


async def test_reindex_of_an_empty_store_switches_too(store: MemoryStore, other_model: str) -> None:
    assert (await store.reindex(other_model)).rows == 0
    assert (await store.stats()).model == other_model


async def test_reindex_tells_how_far_it_is(store: MemoryStore, other_model: str) -> None:
    seen: list[tuple[int, int]] = []
    await fill(store, 12)
    await store.reindex(other_model, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)


async def test_an_open_store_follows_the_switch_of_another(
    home: Path, store: MemoryStore, other_model: str, tmp_path: Path
) -> None:
    await fill(store)
    async with await MemoryStore.open(home) as other:
        await best(other)
        await store.reindex(other_model)
        told = await other.remember(NewMemory(text="Ana went to the opera"))
        hit = await best(other, "Ana went to the opera")
    assert hit.id == told.id
    expected = cosine_by(other_model, hit, "Ana went to the opera", tmp_path)
    assert hit.explanation.cosine == pytest.approx(expected, abs=1e-4)
    assert (await store.stats()).without_vector == 0


async def test_reads_and_writes_go_on_while_reindexing(
    home: Path, store: MemoryStore, other_model: str, tmp_path: Path
) -> None:
    ids = await fill(store, 80)
    async with await MemoryStore.open(home) as other:
        reindexing = asyncio.create_task(store.reindex(other_model))
        while not reindexing.done():
            ids.append((await other.remember(NewMemory(text=f"Told meanwhile {len(ids)}"))).id)
            assert (await best(other)).explanation.cosine
        await reindexing
    assert len(ids) > 81
    assert {memory.id async for memory in store.memories()} == set(ids)
    assert (await store.stats()).without_vector == 0
    for query in (f"Told meanwhile {len(ids) - 1}", "Note 7: Ana went to the market"):
        hit = await best(store, query)
        expected = cosine_by(other_model, hit, query, tmp_path)
        assert hit.explanation.cosine == pytest.approx(expected, abs=1e-4)


async def test_what_is_forgotten_while_reindexing_stays_forgotten(
    store: MemoryStore, other_model: str
) -> None:
    ids = await fill(store, 60)
    await asyncio.gather(store.reindex(other_model), store.forget(ids[:30]))
    assert {memory.id async for memory in store.memories()} == set(ids[30:])


async def test_insisting_on_another_model_says_what_to_do(home: Path, other_model: str) -> None:
    async with await MemoryStore.open(home) as store:
        await fill(store, 3)
    async with await MemoryStore.open(home, model=other_model) as store:
        with pytest.raises(ModelMismatch, match="byheart reindex --model"):
            await store.recall("Ana")
        with pytest.raises(ModelMismatch, match="vectors of all-MiniLM-L6-v2"):
            await store.remember(NewMemory(text="not stored"))
        assert (await store.stats()).memories == 3


async def test_after_a_mismatch_reindex_is_the_way_out(home: Path, other_model: str) -> None:
    async with await MemoryStore.open(home) as store:
        await fill(store, 3)
    async with await MemoryStore.open(home, model=other_model) as store:
        with pytest.raises(ModelMismatch):
            await store.model_ready()
        assert (await store.reindex(other_model)).rows == 3
        assert (await best(store)).explanation.cosine


async def test_a_model_that_can_not_be_had_changes_nothing(store: MemoryStore) -> None:
    await fill(store, 3)
    before = await store.stats()
    with pytest.raises(ModelUnavailable, match="no/such-model"):
        await store.reindex("no/such-model")
    after = await store.stats()
    assert (after.model, after.fingerprint) == (before.model, before.fingerprint)
    assert (await best(store)).explanation.cosine


async def test_a_model_folder_that_changed_is_not_mixed_in(home: Path, other_model: str) -> None:
    async with await MemoryStore.open(home, model=other_model) as store:
        await fill(store, 3)
    manifest = Path(other_model) / "byheart.json"
    manifest.write_text(manifest.read_text().replace('"cls"', '"mean"'))
    async with await MemoryStore.open(home) as store:
        with pytest.raises(ModelMismatch, match="embed them anew"):
            await store.recall("Ana")
        assert (await store.reindex(other_model)).rows == 3
        assert (await best(store)).explanation.cosine


async def test_a_model_that_went_away_leaves_words_to_search_by(
    home: Path, other_model: str
) -> None:
    async with await MemoryStore.open(home, model=other_model) as store:
        await fill(store, 3)
    shutil.rmtree(other_model)
    async with await MemoryStore.open(home) as store:
        told = await store.remember(NewMemory(text="Ana bought a kayak"))
        recall = await store.recall("kayak")
        assert ([hit.id for hit in recall.hits][:1], recall.degraded) == ([told.id], True)
        assert (await store.stats()).without_vector == 1
        assert (await store.reindex("all-MiniLM-L6-v2")).rows == 4
        assert not (await store.recall("kayak")).degraded


async def interrupted(home: Path, store: MemoryStore, model: str) -> None:
    """Leave the store as a process leaves it that dies between embedding and switching."""
    await store.prepare(model)
    async with database_at(home) as database:
        description = await database.describe()
        pending = replace(description, pending=description.of_model(model).column)
        await database.write(lambda: database.redescribe(pending))
    await store.remember(NewMemory(text="Ana went to the bakery once more."))


async def chores(home: Path) -> MemoryStore:
    """The store as the next server opens it, its chores done."""
    store = await MemoryStore.open(home)
    await do_chores(store)
    return store


async def test_a_switch_that_was_interrupted_is_finished_by_the_next_server(
    home: Path, store: MemoryStore, other_model: str
) -> None:
    await fill(store)
    await interrupted(home, store, other_model)
    async with await chores(home) as next_server:
        stats = await next_server.stats()
    assert (stats.model, stats.without_vector) == (other_model, 0)
    assert (await description_at(home)).pending is None
    assert await best(store)


async def test_a_switch_whose_model_is_gone_is_given_up(
    home: Path, store: MemoryStore, other_model: str
) -> None:
    await fill(store)
    embedded = (await store.stats()).model
    await interrupted(home, store, other_model)
    shutil.rmtree(other_model)
    async with await chores(home) as next_server:
        stats = await next_server.stats()
    assert (stats.model, stats.without_vector) == (embedded, 0)
    assert (await description_at(home)).pending is None


async def test_a_switch_that_fails_leaves_nothing_pending(
    home: Path, store: MemoryStore, other_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store)

    async def fails(*_: object) -> int:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(Reindexer, "fill", fails)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        await store.reindex(other_model)
    description = await description_at(home)
    assert (description.pending, description.active_column.model) == (None, "all-MiniLM-L6-v2")  # type: ignore[union-attr]


async def test_one_switch_at_a_time(home: Path, store: MemoryStore, other_model: str) -> None:
    await fill(store, 3)
    with exclusive(home / "reindex.lock", ""), pytest.raises(StoreBusy, match="another process is"):
        await store.reindex(other_model)
    assert (await store.reindex(other_model)).rows == 3
