"""An embedding model that costs next to nothing, where what is measured is not the model."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from byheart_store.models.passages import EMBEDDED

DIMENSION = 384
BUCKETS = 4_096
COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json")


def write_quick_model(folder: Path) -> Path:
    """A model folder: each token has a random vector, so that texts which share words are near."""
    folder.mkdir(parents=True)
    tokens = np.random.default_rng(7).standard_normal((BUCKETS, DIMENSION), dtype=np.float32)
    constants = [
        numpy_helper.from_array(np.array(BUCKETS, np.int64), "buckets"),
        numpy_helper.from_array(tokens, "tokens"),
    ]
    nodes = [
        helper.make_node("Mod", ["input_ids", "buckets"], ["bucket"]),
        helper.make_node("Gather", ["tokens", "bucket"], ["last_hidden_state"]),
    ]
    asked = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    given = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["b", "s", DIMENSION]
    )
    graph = helper.make_graph(nodes, "quick", asked, [given], constants)
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        folder / "model.onnx",
    )
    for name in COPIED:
        shutil.copy(EMBEDDED / name, folder)
    declared = {
        "sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest(),
        "dimension": DIMENSION,
        "pooling": "mean",
        "max_tokens": 256,
    }
    (folder / "byheart.json").write_text(json.dumps(declared), encoding="utf-8")
    return folder
