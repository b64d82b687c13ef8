"""From trained weights to what is served: the same vectors, and not a word on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from byheart_retrain.publishing import Parity, onnx_folder, publish_cross_encoder, publish_onnx
from byheart_retrain.publishing.parity import SENTENCES, cosines, torch_vectors
from byheart_store import InvalidInput, ModelUnavailable
from byheart_store.models.loading import load_encoder

from .tiny_models import small_bert, write_encoder, write_tokenizer

if find_spec("sentence_transformers") is None:
    pytest.skip("the extra `retrain` is not installed", allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder as a training leaves it, of a model that knows nothing."""
    import torch
    from transformers import BertModel

    torch.manual_seed(0)
    return write_encoder(tmp_path_factory.mktemp("trained") / "model", BertModel(small_bert()))


@pytest.fixture(scope="module")
def published(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Parity]:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("published") / "model")
    (folder / "byheart.json").write_text(json.dumps({"name": "mine", "query_prefix": "ask: "}))
    return folder, publish_onnx(folder)


class TestPublishing:
    def test_both_files_lie_where_they_are_looked_for(self, published: tuple[Path, Parity]) -> None:
        folder, _ = published
        assert (folder / "model.onnx").stat().st_size < (folder / "onnx/model.onnx").stat().st_size

    def test_the_declaration_says_how_the_model_reads_and_keeps_what_it_said(
        self, published: tuple[Path, Parity]
    ) -> None:
        folder, _ = published
        assert json.loads((folder / "byheart.json").read_text()) == {
            "name": "mine",
            "query_prefix": "ask: ",
            "passage_prefix": "",
            "pooling": "mean",
            "max_tokens": 64,
            "dimension": 32,
            "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        }

    def test_the_vectors_that_are_served_are_those_that_were_trained(
        self, published: tuple[Path, Parity]
    ) -> None:
        _, parity = published
        assert parity.fp32_least >= 0.9999
        assert parity.int8_mean >= 0.98
        assert parity.as_dict()["int8_mean"] == parity.int8_mean

    def test_the_folder_is_served_as_it_stands(
        self, published: tuple[Path, Parity], tmp_path: Path
    ) -> None:
        from sentence_transformers import SentenceTransformer

        folder, _ = published
        encoder = load_encoder(str(folder), cache_dir=tmp_path)
        assert (encoder.dimension, encoder.max_tokens) == (32, 64)
        torch = SentenceTransformer(str(folder), device="cpu").encode(
            SENTENCES[0], normalize_embeddings=True
        )
        assert float(encoder.encode_passages([SENTENCES[0]])[0] @ torch) > 0.98

    def test_publishing_again_gives_the_same_file(
        self, published: tuple[Path, Parity], tmp_path: Path
    ) -> None:
        folder = shutil.copytree(published[0], tmp_path / "again")
        before = (folder / "model.onnx").read_bytes()
        assert publish_onnx(folder) == published[1]
        assert (folder / "model.onnx").read_bytes() == before

    def test_it_says_nothing(
        self, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = shutil.copytree(trained, tmp_path / "quiet")
        capfd.readouterr()
        publish_onnx(folder)
        assert capfd.readouterr() == ("", "")

    def test_the_files_hold_no_trace_of_the_machine(self, published: tuple[Path, Parity]) -> None:
        for name in ("model.onnx", "onnx/model.onnx"):
            content = (published[0] / name).read_bytes()
            assert not any(trace in content for trace in (b"site-packages", b"/tmp", b"/home"))


class TestRefusals:
    def test_vectors_that_drift_too_far_are_not_published(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = shutil.copytree(trained, tmp_path / "drifted")
        monkeypatch.setattr(onnx_folder, "INT8_MEAN", 1.1)
        with pytest.raises(ModelUnavailable, match=r"mean in int8 [\d.]+, needed 1\.1"):
            publish_onnx(folder)
        assert not (folder / "model.onnx").exists()

    def test_a_module_that_is_not_served_is_named(self, trained: Path, tmp_path: Path) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Dense

        model = SentenceTransformer(str(trained), device="cpu")
        model.append(Dense(32, 16))
        model.save(str(tmp_path / "dense"))
        with pytest.raises(InvalidInput, match="Transformer, Pooling, Dense"):
            publish_onnx(tmp_path / "dense")


class TestParts:
    def test_cosines_compare_what_is_served(self, published: tuple[Path, Parity]) -> None:
        folder, _ = published
        rows = torch_vectors(folder, SENTENCES)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert cosines(folder, SENTENCES, rows).mean() > 0.98
        assert cosines(folder, SENTENCES, -rows).mean() < -0.98


class TestCrossEncoder:
    def test_its_logits_are_those_of_the_trained_one(self, tmp_path: Path) -> None:
        import onnx
        import torch
        from transformers import BertForSequenceClassification

        torch.manual_seed(1)
        BertForSequenceClassification(small_bert(num_labels=1)).save_pretrained(tmp_path)
        write_tokenizer(tmp_path)
        assert publish_cross_encoder(tmp_path) >= 0.98
        graph = onnx.load(tmp_path / "model.onnx").graph
        inputs = [one.name for one in graph.input]
        assert inputs == ["input_ids", "attention_mask", "token_type_ids"]
        assert [one.name for one in graph.output] == ["logits"]
