"""The guards: what a specialist may not forget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from byheart_retrain.evaluation.guard import (
    TOLERANCE,
    general,
    general_pairs,
    general_scores,
    guarded,
    known_items,
)
from byheart_retrain.labels import known_item_queries
from byheart_store import MemoryStore, NewMemory
from byheart_store.models.encoder import Encoder
from byheart_store.models.loading import load_encoder

MEMORIES = [
    "The sourdough starter lives in the blue enamel jar next to the kitchen window.",
    "Grandmother's plum cake needs forty minutes at a moderate heat, without the fan.",
    "Berth seventeen costs ninety crowns a month in summer and sixty in winter.",
    "The bilge pump fails whenever the battery drops under eleven volts at night.",
    "Old Halvard the sailmaker wants the torn jib back by Thursday at the latest.",
    "Ines is allergic to hazelnuts and must not touch the nougat from Turin again.",
]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(None, cache_dir=tmp_path_factory.mktemp("cache"))


class TestAGuard:
    def test_it_holds_up_to_the_tolerance_stated(self) -> None:
        within = guarded("a guard", [0.90] * 40, [0.88] * 40)
        beyond = guarded("a guard", [0.90] * 40, [0.87] * 40)
        assert (within.holds, beyond.holds) == (True, False)
        assert TOLERANCE == within.tolerance == 0.02

    def test_the_mean_decides_and_the_interval_is_told(self) -> None:
        found = guarded("a guard", [1.0] * 100, [1.0] * 97 + [0.5] * 3)
        assert found.loss.mean == pytest.approx(0.015)
        assert found.loss.low < 0.015 < found.loss.high
        assert found.loss.high > found.tolerance
        assert found.holds

    def test_a_gain_holds(self) -> None:
        assert guarded("a guard", [0.1] * 10, [0.9] * 10, tolerance=0.0).holds

    def test_where_nothing_is_asked_nothing_is_lost(self) -> None:
        found = guarded("a guard", [], [])
        assert found.holds
        assert found.as_dict()["loss"]["mean"] is None

    def test_scores_of_different_queries_are_refused(self) -> None:
        with pytest.raises(ValueError, match="size"):
            guarded("a guard", [0.5], [0.5, 0.6])


class TestKnownItems:
    async def test_two_stores_are_asked_the_same(self, tmp_path: Path) -> None:
        async with (
            await MemoryStore.open(tmp_path / "full") as full,
            await MemoryStore.open(tmp_path / "empty") as empty,
        ):
            await full.remember_many([NewMemory(text=text) for text in MEMORIES])
            queries = known_item_queries([one async for one in full.memories()])
            same = await known_items(full, full, queries)
            lost = await known_items(full, empty, queries)
        assert len(queries) == same.queries == len(MEMORIES)
        assert same.loss.mean == 0
        assert same.holds
        assert lost.before > 0.9
        assert lost.after == 0
        assert not lost.holds


class TestGeneralKnowledge:
    def test_the_set_asks_each_question_once_and_answers_each_with_a_passage_of_its_own(
        self,
    ) -> None:
        questions, passages = zip(*general_pairs(), strict=True)
        assert len(set(questions)) == len(set(passages)) == len(questions)
        assert len(questions) >= 120

    def test_the_embedded_model_knows_most_and_not_all(self, embedded: Encoder) -> None:
        found = general(embedded, embedded)
        assert 0.85 < found.before < 0.97
        assert found.loss.mean == 0
        assert found.holds

    def test_a_model_that_reads_otherwise_has_lost_it(
        self, embedded: Encoder, other_model: str, tmp_path: Path
    ) -> None:
        found = general(embedded, load_encoder(other_model, cache_dir=tmp_path))
        assert found.after < found.before - 0.05
        assert not found.holds

    def test_a_model_that_gives_every_text_one_vector_knows_nothing(self) -> None:
        rows = np.full((len(general_pairs()), 384), 384**-0.5, np.float32)
        assert sum(general_scores(rows, rows)) == 0

    def test_a_model_that_tells_all_answers_apart_knows_everything(self) -> None:
        rows = np.eye(len(general_pairs()), dtype=np.float32)
        assert set(general_scores(rows, rows)) == {1.0}
