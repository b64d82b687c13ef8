"""A model folder that brings a reranker: the top of every hybrid recall is read once more."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byheart_store import MemoryStore, ModelUnavailable, NewMemory
from byheart_store.models.loading import load_encoder
from byheart_store.models.passages import EMBEDDED
from byheart_store.ranking.reranking import Reranking
from byheart_store.ranking.tuning import DEFAULT_TUNING

TEXTS = [
    "The ferry to Sandhamn leaves at nine.",
    "The ferry was late again on Tuesday.",
    "Ferries need new paint every second spring.",
    "A ferry ticket costs forty crowns.",
    "Olga keeps bees behind the ferry landing.",
]
QUERY = "When does the ferry leave?"

Build = Callable[..., Path]


def write_reranker(folder: Path) -> None:
    """A cross-encoder whose logit is the mean of the token numbers: senseless, but repeatable."""
    from onnx import TensorProto, helper, save

    ids, mask, logits = (
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("input_ids", TensorProto.INT64, ["b", "s"]),
            ("attention_mask", TensorProto.INT64, ["b", "s"]),
            ("logits", TensorProto.FLOAT, ["b", 1]),
        )
    )
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["read"]),
        helper.make_node("Cast", ["read"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["logits"], axes=[1], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "mean", [ids, mask], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir()
    save(model, folder / "model.onnx")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(EMBEDDED / name, folder)
    shutil.copy(EMBEDDED / "config.json", folder)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds a model folder whose reranker counts for so much."""

    def with_reranker(weight: float, **more: Any) -> Path:
        folder = shutil.copytree(EMBEDDED, tmp_path / f"model-{weight}")
        write_reranker(folder / "reranker")
        digest = hashlib.sha256((folder / "reranker" / "model.onnx").read_bytes()).hexdigest()
        tuning = replace(DEFAULT_TUNING, reranking=Reranking(weight=weight, **more))
        declared = json.loads((folder / "byheart.json").read_text()) | {
            "tuning": tuning.as_dict(),
            "reranker": {"folder": "reranker", "sha256": digest, "max_tokens": 64},
        }
        (folder / "byheart.json").write_text(json.dumps(declared))
        return folder

    return with_reranker


async def recalled(home: Path, model: Path, **more: Any) -> list[str]:
    async with await MemoryStore.open(home, model=str(model)) as store:
        await store.remember_many([NewMemory(text=text) for text in TEXTS])
        recall = await store.recall(QUERY, **more)
        assert recall.notice is None, recall.notice
        return [hit.text for hit in recall.hits]


async def test_with_all_the_weight_the_reranker_orders_the_top(home: Path, build: Build) -> None:
    model = build(1.0)
    reranker = load_encoder(str(model), cache_dir=home).reranker
    assert reranker is not None
    wanted = [TEXTS[position] for position in np.argsort(-reranker.scores(QUERY, TEXTS))]
    assert await recalled(home, model) == wanted


async def test_without_weight_it_is_not_even_loaded(home: Path, build: Build) -> None:
    model = build(0.0)
    (model / "reranker" / "model.onnx").write_bytes(b"damaged")
    assert await recalled(home, model) == await recalled(home / "other", EMBEDDED)


async def test_only_the_hybrid_recall_is_reranked(home: Path, build: Build) -> None:
    plain = await recalled(home / "plain", EMBEDDED, mode="vector")
    assert await recalled(home / "reranked", build(1.0), mode="vector") == plain


async def test_beyond_its_depth_the_order_stays(home: Path, build: Build) -> None:
    plain = await recalled(home / "plain", EMBEDDED)
    assert (await recalled(home / "reranked", build(1.0, depth=2)))[2:] == plain[2:]


async def test_a_damaged_reranker_is_said_and_words_answer(home: Path, build: Build) -> None:
    model = build(0.5)
    (model / "reranker" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelUnavailable, match=r"damaged.*train the model again"):
        load_encoder(str(model), cache_dir=home)
    async with await MemoryStore.open(home, model=str(model)) as store:
        await store.remember(NewMemory(text=TEXTS[0]))
        recall = await store.recall(QUERY)
        assert [hit.text for hit in recall.hits] == TEXTS[:1]
        assert recall.notice is not None
        assert "damaged" in recall.notice


def test_a_pair_is_scored_for_itself_alone(home: Path, build: Build) -> None:
    reranker = load_encoder(str(build(1.0)), cache_dir=home).reranker
    assert reranker is not None
    together = reranker.scores(QUERY, TEXTS)
    alone = [float(reranker.scores(QUERY, [text])[0]) for text in TEXTS]
    assert together.tolist() == alone


def test_an_entry_that_can_t_be_read_is_said(home: Path, build: Build) -> None:
    model = build(1.0)
    declared = json.loads((model / "byheart.json").read_text())
    (model / "byheart.json").write_text(json.dumps(declared | {"reranker": {"folder": 1}}))
    with pytest.raises(ModelUnavailable, match=r"reranker.*can't be read"):
        load_encoder(str(model), cache_dir=home)


@pytest.mark.parametrize("query", ["", "word " * 2_000, "\ud800"])
def test_any_query_can_be_read(home: Path, build: Build, query: str) -> None:
    reranker = load_encoder(str(build(1.0)), cache_dir=home).reranker
    assert reranker is not None
    assert np.isfinite(reranker.scores(query, TEXTS)).all()
