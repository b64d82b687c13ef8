"""The models of a store: prepared, tried out, switched to, gone back from, dropped."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from byheart_store import (
    ByHeartError,
    InvalidInput,
    MemoryStore,
    ModelMismatch,
    ModelUnavailable,
    NewMemory,
    StoreUnavailable,
)
from byheart_store.models.loading import load_encoder
from byheart_store.models.passages import EMBEDDED
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning
from byheart_store.tables.schema import Description, VectorColumn

EMBEDDED_NAME = "all-MiniLM-L6-v2"
PLACES = ("harbour", "library", "bakery", "museum", "stadium", "garden", "station", "market")
QUERIES = ("Where did Ana buy bread?", "Who looked at old paintings?", "a trip by train")
WORDS_ALONE = replace(DEFAULT_TUNING, fusion=replace(DEFAULT_TUNING.fusion, vector=0.0))
VECTORS_ALONE = replace(DEFAULT_TUNING, fusion=replace(DEFAULT_TUNING.fusion, vector=1.0))

Served = list[list[tuple[str, float, float]]]


async def fill(store: MemoryStore, count: int = 24) -> list[str]:
    texts = [f"Note {n}: Ana went to the {PLACES[n % 8]} on day {n}." for n in range(count)]
    receipts = await store.remember_many([NewMemory(text=text) for text in texts])
    return [receipt.id for receipt in receipts]


async def served(store: MemoryStore) -> Served:
    """What the store answers: ids, scores and relevances in their order."""
    recalls = [await store.recall(query, log=False) for query in QUERIES]
    return [[(h.id, h.explanation.score, h.relevance) for h in recall.hits] for recall in recalls]


async def names(store: MemoryStore) -> list[tuple[str, bool, bool]]:
    """Name, active, previous of each model."""
    return [(one.model, one.active, one.previous) for one in await store.models()]


def declare(model: str, **changes: object) -> None:
    """Change what the folder of a model says of it."""
    manifest = Path(model) / "byheart.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def bring(model: str, tuning: Tuning) -> None:
    """Put a tuning into the folder of a model."""
    declare(model, tuning=tuning.as_dict())


@pytest.fixture
def third_model(other_model: str, tmp_path: Path) -> str:
    """A folder that reads another way than the others."""
    folder = str(shutil.copytree(other_model, tmp_path / "third"))
    declare(folder, query_prefix="query: ")
    return folder


class TestModels:
    async def test_a_new_store_has_none(self, store: MemoryStore) -> None:
        assert await store.models() == []

    async def test_they_are_told_with_how_far_each_is(
        self, store: MemoryStore, other_model: str, third_model: str
    ) -> None:
        await fill(store, 5)
        await store.prepare(third_model)
        await store.reindex(other_model)
        await store.tune(WORDS_ALONE)
        await store.remember(NewMemory(text="one more"))
        active, previous, prepared = await store.models()
        assert (active.model, active.active, active.previous) == (other_model, True, False)
        assert (active.embedded, active.passages, active.tuned) == (6, 6, True)
        assert (previous.model, previous.active, previous.previous) == (EMBEDDED_NAME, False, True)
        assert (previous.embedded, previous.passages, previous.tuned) == (5, 6, False)
        assert (prepared.model, prepared.active, prepared.previous) == (third_model, False, False)
        assert active.fingerprint == (await store.stats()).fingerprint
        assert (prepared.embedded, prepared.dimension) == (5, 384)


class TestPrepare:
    async def test_it_embeds_all_and_switches_nothing(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        before = await served(store)
        seen: list[tuple[int, int]] = []
        done = await store.prepare(other_model, lambda some, total: seen.append((some, total)))
        assert (done.model, done.rows, seen[-1]) == (other_model, 24, (24, 24))
        assert await served(store) == before
        assert await names(store) == [(EMBEDDED_NAME, True, False), (other_model, False, False)]

    async def test_the_switch_has_nothing_left_to_embed(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.prepare(other_model)
        await store.remember(NewMemory(text="one more"))
        assert (await store.reindex(other_model)).rows == 1

    async def test_of_the_active_model_it_leaves_alone_what_recall_ranks_with(
        self, home: Path, other_model: str
    ) -> None:
        async with await MemoryStore.open(home, model=other_model) as store:
            await fill(store)
            await store.tune(WORDS_ALONE)
            bring(other_model, VECTORS_ALONE)
            assert (await store.prepare(other_model)).rows == 0
            assert await store.tuning() == WORDS_ALONE

    async def test_nor_does_it_change_where_a_rollback_leads_to(
        self, store: MemoryStore, other_model: str, tmp_path: Path
    ) -> None:
        same = str(shutil.copytree(EMBEDDED, tmp_path / "same"))
        bring(same, WORDS_ALONE)
        await fill(store)
        before = await served(store)
        await store.reindex(other_model)
        await store.prepare(same)
        shutil.rmtree(same)
        assert (await store.rollback()).model == EMBEDDED_NAME
        assert await served(store) == before

    async def test_a_model_that_can_not_be_had_changes_nothing(self, store: MemoryStore) -> None:
        await fill(store, 3)
        before = await store.models()
        with pytest.raises(ModelUnavailable, match="no/such-model"):
            await store.prepare("no/such-model")
        assert await store.models() == before


class TestTrial:
    async def test_it_recalls_what_a_switch_would_serve(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        bring(other_model, VECTORS_ALONE)
        await fill(store)
        await store.prepare(other_model)
        live = await served(store)
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            tried = await served(trial)
            assert await trial.tuning() == VECTORS_ALONE
            assert await served(store) == live != tried
        await store.reindex(other_model)
        assert await served(store) == tried

    async def test_it_leaves_no_trace(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.prepare(other_model)
        before = await store.stats(), await store.models()
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            await trial.recall(QUERIES[0])
            trial.load_model()
            await trial.model_ready()
        assert (await store.stats(), await store.models()) == before

    async def test_whatever_would_write_is_refused(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        ids = await fill(store)
        recall = await store.recall(QUERIES[0])
        await store.logged_recalls()
        await store.prepare(other_model)
        before = await store.stats(), await store.models(), await served(store)
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            for write in (
                trial.remember(NewMemory(text="not stored")),
                trial.forget(ids[:1]),
                trial.feedback(recall.recall_id, [recall.hits[0].id]),
                trial.tune(WORDS_ALONE),
                trial.reindex(),
                trial.reindex(other_model),
                trial.prepare(other_model),
                trial.discard(other_model),
            ):
                with pytest.raises(StoreUnavailable, match=f"a trial of {other_model}.*read-only"):
                    await write
            with pytest.raises(ByHeartError):
                await trial.rollback()
            assert (await trial.forget(ids[:1], dry_run=True)).ids == (ids[0],)
        assert (await store.stats(), await store.models(), await served(store)) == before

    async def test_it_sees_what_is_remembered_meanwhile_once_that_is_prepared(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.prepare(other_model)
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            told = await store.remember(NewMemory(text="Ana watched an opera"))
            assert (await trial.recall("opera")).hits[0].explanation.cosine is None
            await store.prepare(other_model)
            hit = (await trial.recall("opera")).hits[0]
        assert (hit.id, hit.explanation.cosine is None) == (told.id, False)

    async def test_its_tuning_may_be_set_beside_the_live_one(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.prepare(other_model)
        live = await served(store)
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            untuned = await served(trial)
            await store.tune(VECTORS_ALONE, model=other_model)
            assert await trial.tuning() == VECTORS_ALONE
            assert await served(trial) != untuned
        assert await store.tuning() is None
        assert await served(store) == live

    async def test_a_model_never_prepared_is_to_be_prepared_first(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            with pytest.raises(InvalidInput, match=f"no vectors of {other_model}.*byheart reindex"):
                await trial.recall("Ana")

    async def test_a_folder_that_changed_since_is_not_mixed_in(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.prepare(other_model)
        declare(other_model, query_prefix="q: ")
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            with pytest.raises(ModelMismatch):
                await trial.recall("Ana")

    async def test_a_model_has_to_be_named(self, home: Path) -> None:
        with pytest.raises(InvalidInput, match="name the model"):
            await MemoryStore.open(home, trial=True)


class TestTuningOfAFolder:
    async def test_it_is_served_after_a_switch(self, store: MemoryStore, other_model: str) -> None:
        bring(other_model, VECTORS_ALONE)
        await fill(store)
        await store.reindex(other_model)
        assert await store.tuning() == VECTORS_ALONE
        with_it = await served(store)
        await store.tune(WORDS_ALONE)
        assert await served(store) != with_it

    async def test_taking_back_a_fit_takes_it_back_too(
        self, store: MemoryStore, other_model: str
    ) -> None:
        bring(other_model, VECTORS_ALONE)
        await fill(store, 3)
        await store.reindex(other_model)
        await store.tune(WORDS_ALONE)
        await store.tune(None)
        assert await store.tuning() == VECTORS_ALONE

    async def test_it_is_served_by_a_new_store(self, home: Path, other_model: str) -> None:
        bring(other_model, VECTORS_ALONE)
        async with await MemoryStore.open(home, model=other_model) as store:
            await fill(store, 3)
            assert await store.tuning() == VECTORS_ALONE

    async def test_opening_and_filling_keep_what_was_fitted_since(
        self, home: Path, other_model: str
    ) -> None:
        bring(other_model, VECTORS_ALONE)
        async with await MemoryStore.open(home, model=other_model) as store:
            await fill(store, 3)
            await store.tune(WORDS_ALONE)
        async with await MemoryStore.open(home, model=other_model) as store:
            await store.model_ready()
            await store.reindex()
            assert await store.tuning() == WORDS_ALONE

    async def test_naming_the_model_again_takes_it_back(
        self, store: MemoryStore, other_model: str
    ) -> None:
        bring(other_model, VECTORS_ALONE)
        await fill(store, 3)
        await store.reindex(other_model)
        await store.tune(WORDS_ALONE)
        await store.reindex(other_model)
        assert await store.tuning() == VECTORS_ALONE

    async def test_a_folder_without_one_keeps_what_was_fitted(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.prepare(other_model)
        await store.tune(WORDS_ALONE, model=other_model)
        await store.prepare(other_model)
        await store.reindex(other_model)
        assert await store.tuning() == WORDS_ALONE

    async def test_only_a_model_that_the_store_knows_can_be_tuned(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        with pytest.raises(InvalidInput, match=f"only of {EMBEDDED_NAME}"):
            await store.tune(WORDS_ALONE, model=other_model)


class TestRollback:
    async def test_it_gives_back_the_very_ranks_and_scores(
        self, store: MemoryStore, other_model: str
    ) -> None:
        bring(other_model, VECTORS_ALONE)
        await fill(store)
        before = await served(store)
        await store.reindex(other_model)
        assert await served(store) != before
        back = await store.rollback()
        assert (back.model, back.active, back.previous) == (EMBEDDED_NAME, True, False)
        assert await served(store) == before

    async def test_what_was_remembered_meanwhile_is_found_by_its_meaning(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.reindex(other_model)
        told = await store.remember(NewMemory(text="Ana baked a sourdough loaf"))
        assert (await store.rollback()).embedded == 25
        recall = await store.recall("making bread at home", mode="vector", limit=1)
        assert recall.hits[0].id == told.id

    async def test_twice_leads_back_to_where_one_was(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.reindex(other_model)
        before = await served(store)
        await store.rollback()
        assert (await store.rollback()).model == other_model
        assert await served(store) == before
        assert await names(store) == [(other_model, True, False), (EMBEDDED_NAME, False, True)]

    async def test_it_leads_back_by_one_switch(
        self, store: MemoryStore, other_model: str, third_model: str
    ) -> None:
        await fill(store, 3)
        await store.reindex(other_model)
        await store.reindex(third_model)
        assert (await store.rollback()).model == other_model

    async def test_an_index_anew_by_the_active_model_is_no_switch(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.reindex(other_model)
        await store.reindex(other_model)
        await store.reindex()
        assert (await store.rollback()).model == EMBEDDED_NAME

    async def test_the_way_back_is_known_when_the_store_is_opened_again(
        self, home: Path, other_model: str
    ) -> None:
        async with await MemoryStore.open(home) as store:
            await fill(store, 3)
            await store.reindex(other_model)
        async with await MemoryStore.open(home) as store:
            assert (await store.rollback()).model == EMBEDDED_NAME

    async def test_without_a_switch_there_is_no_way_back(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidInput, match="no other model before"):
            await store.rollback()
        await fill(store, 3)
        with pytest.raises(InvalidInput, match="byheart reindex --model"):
            await store.rollback()

    async def test_a_folder_that_is_gone_changes_nothing(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.reindex(other_model)
        await store.reindex(EMBEDDED_NAME)
        before = await served(store), await store.models()
        shutil.rmtree(other_model)
        with pytest.raises(ModelUnavailable, match=f"{other_model} is not there"):
            await store.rollback()
        assert (await served(store), await store.models()) == before

    async def test_a_folder_with_another_model_in_it_changes_nothing(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.reindex(other_model)
        await store.reindex(EMBEDDED_NAME)
        before = await store.models()
        declare(other_model, query_prefix="q: ")
        with pytest.raises(ModelMismatch, match="embed them anew"):
            await store.rollback()
        assert await store.models() == before

    @pytest.mark.parametrize("insists", [False, True])
    async def test_other_stores_that_are_open_follow(
        self, home: Path, store: MemoryStore, other_model: str, insists: bool
    ) -> None:
        await fill(store)
        before = await served(store)
        await store.reindex(other_model)
        async with await MemoryStore.open(home, model=other_model if insists else None) as other:
            switched = await served(other)
            assert switched == await served(store) != before
            await store.rollback()
            assert await served(other) == before
            told = await other.remember(NewMemory(text="Ana watched an opera"))
            assert (await store.recall("opera", mode="vector")).hits[0].id == told.id
        assert (await store.stats()).without_vector == 0

    async def test_two_at_once_lead_back_once(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        before = await served(store)
        await store.reindex(other_model)
        async with await MemoryStore.open(home) as other:
            await asyncio.gather(store.rollback(), other.rollback())
            assert await served(store) == await served(other) == before

    async def test_memories_go_on_being_remembered_and_recalled(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        ids = await fill(store)
        await store.reindex(other_model)
        ids += [(await store.remember(NewMemory(text=f"Then {n}"))).id for n in range(20)]
        async with await MemoryStore.open(home) as other:
            going_back = asyncio.create_task(store.rollback())
            while not going_back.done():
                told = await other.remember(NewMemory(text=f"Told meanwhile {len(ids)}"))
                ids.append(told.id)
                assert (await other.recall("Ana went to the bakery")).hits
            await going_back
        await store.reindex()
        assert {memory.id async for memory in store.memories()} == set(ids)
        assert (await store.stats()).without_vector == 0


class TestAFolderThatMoved:
    async def test_recall_says_so_and_naming_the_new_place_mends_it(
        self, home: Path, other_model: str, tmp_path: Path
    ) -> None:
        async with await MemoryStore.open(home, model=other_model) as store:
            await fill(store)
            before = await served(store)
        moved = str(shutil.move(other_model, tmp_path / "moved"))
        async with await MemoryStore.open(home) as store, await MemoryStore.open(home) as server:
            for opened in (store, server):
                recall = await opened.recall("Ana")
                assert recall.degraded
                assert recall.notice
                assert f"{other_model} is not there" in recall.notice
                assert "reindex --model" in recall.notice
            assert (await store.reindex(moved)).rows == 0
            assert await served(store) == before
            assert await names(store) == [(moved, True, False)]
            assert await served(server) == before

    async def test_a_store_that_does_not_wait_recovers_by_a_rollback(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        async with await MemoryStore.open(home) as server:
            await server.model_ready()
            await store.reindex(other_model)
            shutil.rmtree(other_model)
            assert (await server.recall("Ana")).degraded
            await store.rollback()
            await server.recall("Ana", wait_for_model=False)
            assert server.model_state != "unavailable"
            await server.model_ready()
            assert not (await server.recall("Ana", wait_for_model=False)).degraded


class TestDiscard:
    async def test_it_drops_the_vectors(self, store: MemoryStore, other_model: str) -> None:
        await fill(store)
        before = await served(store)
        await store.prepare(other_model)
        await store.discard(other_model)
        assert await names(store) == [(EMBEDDED_NAME, True, False)]
        assert await served(store) == before
        assert (await store.prepare(other_model)).rows == 24

    async def test_the_active_and_the_previous_model_stay(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.reindex(other_model)
        with pytest.raises(InvalidInput, match="is the active model"):
            await store.discard(other_model)
        with pytest.raises(InvalidInput, match="a rollback returns to"):
            await store.discard(EMBEDDED_NAME)
        assert (await store.rollback()).model == EMBEDDED_NAME

    async def test_a_model_whose_folder_is_gone_can_be_dropped(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.prepare(other_model)
        shutil.rmtree(other_model)
        await store.discard(other_model)
        assert await names(store) == [(EMBEDDED_NAME, True, False)]

    async def test_of_one_folder_the_model_prepared_last_is_meant(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.reindex(other_model)
        kept = [one.fingerprint for one in await store.models()]
        declare(other_model, query_prefix="q: ")
        await store.prepare(other_model)
        assert len(await store.models()) == 3
        await store.discard(other_model)
        assert [one.fingerprint for one in await store.models()] == kept

    async def test_a_fingerprint_names_a_model_too(
        self, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.prepare(other_model)
        await store.discard((await store.models())[1].fingerprint)
        assert len(await store.models()) == 1

    async def test_what_the_store_has_not_can_not_be_dropped(self, store: MemoryStore) -> None:
        await fill(store, 3)
        with pytest.raises(InvalidInput, match=f"only of {EMBEDDED_NAME}"):
            await store.discard("no/such-model")

    async def test_others_recall_and_remember_meanwhile(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store)
        await store.prepare(other_model)
        async with await MemoryStore.open(home) as other:
            recalls = [other.recall(query, log=False) for query in QUERIES * 4]
            told = other.remember(NewMemory(text="Ana watched an opera"))
            await asyncio.gather(store.discard(other_model), *recalls, told)
            assert (
                (await other.recall("opera", mode="vector")).hits[0].memory.text.endswith("opera")
            )

    async def test_embedding_with_it_ends_with_a_word_about_that(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 200)
        async with await MemoryStore.open(home) as other:
            switching = asyncio.create_task(store.reindex(other_model))
            while len(await other.models()) < 2:  # noqa: ASYNC110 - another process, no event
                await asyncio.sleep(0.005)
            await other.discard(other_model)
            with pytest.raises(InvalidInput, match="dropped meanwhile"):
                await switching
        assert await names(store) == [(EMBEDDED_NAME, True, False)]

    async def test_a_trial_of_it_says_that_it_is_gone(
        self, home: Path, store: MemoryStore, other_model: str
    ) -> None:
        await fill(store, 3)
        await store.prepare(other_model)
        async with await MemoryStore.open(home, model=other_model, trial=True) as trial:
            await trial.recall("Ana")
            await store.discard(other_model)
            with pytest.raises(InvalidInput, match="no vectors of"):
                await trial.recall("Ana")


class TestVectors:
    async def test_they_are_those_of_the_active_model_in_the_order_asked_for(
        self, store: MemoryStore, other_model: str, tmp_path: Path
    ) -> None:
        ids = await fill(store, 3)
        texts = [(await store.get(name)).text for name in ids]
        for model in (None, other_model):
            if model:
                await store.reindex(model)
            encoder = load_encoder(model, cache_dir=tmp_path)
            vectors = await store.vectors([ids[2], ids[0]])
            expected = encoder.encode_passages([texts[2], texts[0]])
            assert vectors.dtype == np.float32
            assert np.allclose(vectors, expected, atol=1e-6)

    async def test_of_a_long_memory_it_is_the_first_passage(self, store: MemoryStore) -> None:
        sentences = [f"Sentence {n} is about the {PLACES[n % 8]}." for n in range(200)]
        told = await store.remember(NewMemory(text=" ".join(sentences)))
        assert (await store.stats()).passages > 1
        (vector,) = await store.vectors([told.id])
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)

    async def test_what_is_unknown_or_not_embedded_has_zeros(
        self, store: MemoryStore, other_model: str
    ) -> None:
        ids = await fill(store, 3)
        known, unknown = await store.vectors([ids[0], "nobody"])
        assert known.any()
        assert not unknown.any()
        assert (await store.vectors([])).shape == (0, 384)

    async def test_without_a_model_they_have_no_numbers(self, wordless: MemoryStore) -> None:
        told = await wordless.remember(NewMemory(text="Ana bought a kayak"))
        assert (await wordless.vectors([told.id])).shape == (1, 0)


class TestDescription:
    def test_one_without_a_previous_model_is_read(self) -> None:
        column = VectorColumn("vector_a", "a", "a", 2)
        written = json.loads(Description(active="vector_a", columns=(column,)).to_json())
        del written["previous"]
        read = Description.from_json(json.dumps(written))
        assert (read.active_column, read.previous_column) == (column, None)

    def test_it_is_read_as_it_was_written(self) -> None:
        first, second = VectorColumn("vector_a", "a", "a", 2), VectorColumn("vector_b", "b", "b", 3)
        description = Description().activated(first).activated(second)
        assert Description.from_json(description.to_json()) == description
        assert description.previous_column == first
