"""Training: which weights are chosen, how often few labels are gone through, and interruptions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byheart_retrain.mining import TrainingExample
from byheart_retrain.training import Encode, TrainingSettings, train_encoder
from byheart_retrain.training.base import load_base
from byheart_retrain.training.interpolation import MOST_FORGOTTEN, best_share, interpolated
from byheart_retrain.training.trainer_settings import content_key, passes
from byheart_retrain.training.vectors import encoding
from byheart_store import InvalidInput, ModelUnavailable
from byheart_store.models.loading import load_encoder
from byheart_store.models.passages import EMBEDDED_NAME

from ..world import memories, questions


class TestBestShare:
    def test_the_share_that_answers_best_is_chosen(self) -> None:
        assert best_share({0.0: 0.5, 0.5: 0.7, 1.0: 0.6}, {0.0: 0.9, 0.5: 0.9, 1.0: 0.9}) == 0.5

    def test_nearly_as_good_with_less_change_is_preferred(self) -> None:
        assert best_share({0.0: 0.5, 0.8: 0.698, 1.0: 0.7}, {0.0: 0.9, 0.8: 0.9, 1.0: 0.9}) == 0.8

    def test_of_equal_ones_the_smallest_changes_least(self) -> None:
        assert best_share({1.0: 0.7, 0.5: 0.7, 0.0: 0.5}, {0.0: 0.9, 0.5: 0.9, 1.0: 0.9}) == 0.5

    def test_what_has_forgotten_too_much_is_not_chosen(self) -> None:
        kept = {0.0: 0.9, 0.5: 0.9 - MOST_FORGOTTEN, 1.0: 0.9 - MOST_FORGOTTEN - 0.01}
        assert best_share({0.0: 0.5, 0.5: 0.6, 1.0: 0.9}, kept) == 0.5

    def test_where_nothing_is_better_the_base_stays(self) -> None:
        assert best_share({0.0: 0.5, 0.5: 0.5, 1.0: 0.4}, {0.0: 0.9, 0.5: 1.0, 1.0: 1.0}) == 0.0


class TestPasses:
    def test_many_examples_are_gone_through_as_often_as_asked(self) -> None:
        assert passes(3200, batch=16, fewest=3, fewest_steps=100) == 3

    def test_few_are_gone_through_more_often(self) -> None:
        assert passes(160, batch=16, fewest=3, fewest_steps=100) == 10

    @given(st.integers(1, 10_000), st.integers(1, 64), st.integers(1, 6), st.integers(1, 500))
    def test_there_is_an_end_to_it(
        self, examples: int, batch: int, fewest: int, fewest_steps: int
    ) -> None:
        assert fewest <= passes(examples, batch, fewest, fewest_steps) <= max(fewest, 12)


def test_weights_are_interpolated_and_counters_are_not() -> None:
    torch = pytest.importorskip("torch")
    before = {"weight": torch.tensor([0.0, 2.0]), "steps": torch.tensor(1)}
    after = {"weight": torch.tensor([4.0, 2.0]), "steps": torch.tensor(9)}
    half = interpolated(before, after, 0.25)
    assert half["weight"].tolist() == [1.0, 2.0]
    assert half["steps"].item() == 9


def test_another_training_has_another_key() -> None:
    assert content_key("base", {"seed": 0}) == content_key("base", {"seed": 0})
    assert content_key("base", {"seed": 0}) != content_key("base", {"seed": 1})


def test_without_examples_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="byheart label"):
        train_encoder(EMBEDDED_NAME, [], score, score, tmp_path, TrainingSettings())


def test_a_base_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="--base"):
        load_base(str(tmp_path / "nothing"))


def score(encode: Encode) -> float:
    """The mean cosine of some questions with their answers."""
    asked = questions()[::7]
    texts = memories()
    pairs = encode([one.question for one in asked]) * encode([texts[one.answer] for one in asked])
    return float(pairs.sum(axis=1).mean())


def constant(_: Encode) -> float:
    return 1.0


def examples() -> list[TrainingExample]:
    texts = memories()
    return [
        TrainingExample(one.question, texts[one.answer], (texts[one.answer - 12],))
        for one in questions()
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestTrainEncoder:
    SETTINGS = TrainingSettings(epochs=1, fewest_steps=1, batch=12, negatives=1)

    def test_it_learns(self, tmp_path: Path) -> None:
        trained = train_encoder(
            EMBEDDED_NAME, examples(), score, constant, tmp_path / "work", self.SETTINGS
        )
        assert trained.learnt
        assert trained.by_share[trained.share] > trained.by_share[0.0]
        assert {"loss", "dev"} <= {name for entry in trained.curve for name in entry}
        less = trained.lessened()
        while less is not None:
            assert 0 < less.share < trained.share
            assert score(encoding(less.model)) > less.by_share[0.0]
            trained, less = less, less.lessened()

    def test_an_interrupted_training_goes_on(self, tmp_path: Path) -> None:
        class Interrupted(Exception):
            pass

        def interrupt(done: int, total: int) -> None:
            if done > total // 2:
                raise Interrupted

        arguments = (EMBEDDED_NAME, examples(), score, constant, tmp_path, self.SETTINGS)
        with pytest.raises(Interrupted):
            train_encoder(*arguments, interrupt)
        steps: list[int] = []
        train_encoder(*arguments, lambda done, _: steps.append(done))
        assert steps[0] > 1

    def test_checkpoints_quote_no_text(self, tmp_path: Path) -> None:
        def interrupt(done: int, total: int) -> None:
            if done > total // 2:
                raise RuntimeError

        with pytest.raises(RuntimeError):
            train_encoder(
                *(EMBEDDED_NAME, examples(), score, constant, tmp_path, self.SETTINGS), interrupt
            )
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        quoted = [path for path in files if b"the Otter" in path.read_bytes()]
        assert files
        assert quoted == []

    def test_the_folder_is_loaded_by_others(self, tmp_path: Path) -> None:
        from sentence_transformers import SentenceTransformer

        from byheart_retrain.publishing import publish_onnx

        trained = train_encoder(
            EMBEDDED_NAME, examples(), score, constant, tmp_path / "work", self.SETTINGS
        )
        folder = tmp_path / "model"
        trained.save(folder)
        publish_onnx(folder)
        texts: Sequence[str] = memories()[:5]
        ours = load_encoder(str(folder), cache_dir=tmp_path).encode_passages(texts)
        theirs = SentenceTransformer(str(folder)).encode(list(texts), normalize_embeddings=True)
        assert np.sum(ours * theirs, axis=1).min() > 0.95
