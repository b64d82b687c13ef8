"""Canaries: what ByHeart relies on of the trainer beyond its manual, and where it would break."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from byheart_retrain.mining import TrainingExample
from byheart_retrain.trainer_internals import (
    latest_checkpoint,
    modules_of,
    pooling_of,
    processor_multiplies_bf16,
    without_card,
)
from byheart_retrain.training import TrainingSettings, train_encoder

from ..world import memories, questions
from .tiny_models import small_bert, write_encoder

if find_spec("sentence_transformers") is None:
    pytest.skip("the extra `retrain` is not installed", allow_module_level=True)
pytestmark = pytest.mark.timeout(300)

MOVED = "a new version moved this; byheart_retrain/trainer_internals.py says what relies on it"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertModel

    torch.manual_seed(0)
    return write_encoder(tmp_path_factory.mktemp("tiny") / "model", BertModel(small_bert()))


def test_the_method_that_writes_cards_is_where_it_was() -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    for model in (SentenceTransformer, CrossEncoder):
        assert callable(getattr(model, "_create_model_card", None)), MOVED


def test_without_it_a_save_writes_no_card(folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    model.save_pretrained(str(tmp_path / "with"))
    assert (tmp_path / "with" / "README.md").is_file(), MOVED
    assert hasattr(model.model_card_data, "widget"), MOVED
    without_card(model).save_pretrained(str(tmp_path / "without"))
    assert not (tmp_path / "without" / "README.md").exists(), MOVED


def test_a_training_tells_its_steps_losses_and_scores_and_leaves_whole_checkpoints(
    folder: Path, tmp_path: Path
) -> None:
    texts, asked = memories(), questions()[:8]
    examples = [TrainingExample(one.question, texts[one.answer], (texts[20],)) for one in asked]
    settings = TrainingSettings(epochs=1, fewest_steps=2, batch=4, negatives=1)
    steps: list[tuple[int, int]] = []
    trained = train_encoder(
        str(folder),
        examples,
        lambda _: 0.5,
        lambda _: 0.5,
        tmp_path,
        settings,
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 2), (2, 2)], MOVED
    assert {name for entry in trained.curve for name in entry} == {"step", "loss", "dev"}, MOVED
    (work,) = tmp_path.iterdir()
    checkpoints = sorted(work.glob("checkpoint-*"))
    assert [one.name for one in checkpoints] == ["checkpoint-1", "checkpoint-2"], MOVED
    assert all((one / "trainer_state.json").is_file() for one in checkpoints), MOVED
    assert list(work.rglob("README.md")) == [], MOVED
    (checkpoints[1] / "trainer_state.json").unlink()
    assert latest_checkpoint(work) == str(checkpoints[0]), MOVED


def test_a_model_tells_what_it_is_made_of(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    modules = modules_of(SentenceTransformer(str(folder), device="cpu"))
    assert {"Transformer", "Pooling"} <= modules.keys(), MOVED
    assert pooling_of(modules) == "mean", MOVED


def test_the_processor_tells_what_it_can() -> None:
    import torch

    able = torch.cpu.get_capabilities()
    assert isinstance(able, Mapping), MOVED
    if platform.machine() == "x86_64":
        assert {"amx_bf16", "avx512_bf16"} & able.keys(), MOVED
    assert isinstance(processor_multiplies_bf16(), bool)
