"""What ByHeart relies on beyond FastEmbed's documented calls: a new version may move it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastembed import TextEmbedding

from byheart_store.models import EMBEDDED, fastembed_internals

MOVED = "FastEmbed has moved {}: mend byheart_store/models/fastembed_internals.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TextEmbedding:
    fastembed_internals.register_embedding(
        "byheart/canary", pooling="MEAN", dimension=384, file="model.onnx"
    )
    cache = str(tmp_path_factory.mktemp("cache"))
    return TextEmbedding("byheart/canary", cache_dir=cache, specific_model_path=str(EMBEDDED))


def test_a_name_can_be_registered_twice(model: TextEmbedding) -> None:
    fastembed_internals.register_embedding(
        "byheart/canary", pooling="MEAN", dimension=384, file="model.onnx"
    )
    named = [one["model"] for one in TextEmbedding.list_supported_models()]
    assert named.count("byheart/canary") == 1, MOVED.format("its list of models")


def test_a_model_has_a_tokenizer_that_can_be_told_where_to_stop(model: TextEmbedding) -> None:
    fastembed_internals.truncate(model, 7)
    assert fastembed_internals.read_tokens(model) == 7, MOVED.format("a model's tokenizer")


def test_a_model_tells_where_it_lies(model: TextEmbedding) -> None:
    folder, description = fastembed_internals.model_files(model)
    assert folder == EMBEDDED, MOVED.format("a model's folder")
    assert (description.dim, description.model_file) == (384, "model.onnx")


def test_what_is_in_no_cache_is_told_from_what_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as missing:  # noqa: PT011 - its text is what is tested
        TextEmbedding("BAAI/bge-small-en-v1.5", cache_dir=str(tmp_path), local_files_only=True)
    assert fastembed_internals.is_not_cached(missing.value), MOVED.format("its word for no cache")
    assert not fastembed_internals.is_not_cached(OSError("from any source"))
