"""What is served compared with what was trained: vectors of encoders, logits of rerankers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.publishing.onnx_graphs import LONGEST
from byheart_retrain.publishing.silence import silence
from byheart_store.models import load_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder, SentenceTransformer

    Rows: TypeAlias = NDArray[np.float32]

SENTENCES = (
    "Ana: did the plumber come on Tuesday, or was it moved again?",
    "The rent went up from 1,240 to 1,310 euros, starting in March.",
    "Our database migration failed because the index was built before the backfill finished.",
    "def area(radius: float) -> float: return math.pi * radius**2",
    "She is allergic to walnuts, so please leave them out of the cake.",
    "Remember that the staging password rotates on the first Monday of every month.",
    "ok",
    "What was the name of the restaurant near the harbour where we had the grilled octopus?",
    "Flight LH 1832 departs Munich at 06:45 and lands in Porto at 08:50 local time.",
    "El perro de mi hermana se llama Canela y tiene miedo de los truenos.",
    "We agreed to paint the hall, the stairs and the small room at the back before winter. " * 30,
)
"""Short and long, prose, code and figures: the texts that exports are compared on."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Cosines of the served vectors with those of the trained model: least and mean by file."""

    fp32_least: float
    fp32_mean: float
    int8_least: float
    int8_mean: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def cosines(folder: Path, texts: Sequence[str], wanted: Rows) -> Rows:
    """n texts, (n, d) unit rows -> (n,) cosines of what `folder` serves for the texts with them."""
    encoder = load_encoder(str(folder), cache_dir=folder)
    products: Rows = encoder.encode_passages(texts) * wanted
    rows: Rows = products.sum(axis=1)
    return rows


def torch_vectors(folder: Path, texts: Sequence[str]) -> Rows:
    """n texts -> (n, d) unit rows of the model whose weights lie in `folder`."""
    return encoded(sentence_transformer(folder), texts)


def sentence_transformer(folder: Path) -> SentenceTransformer:
    """The model whose weights lie in `folder`."""
    from sentence_transformers import SentenceTransformer

    with silence():
        return SentenceTransformer(str(folder), device="cpu")


def encoded(model: SentenceTransformer, texts: Sequence[str]) -> Rows:
    """n texts -> (n, d) unit rows, each text read as it stands."""
    rows: Rows = model.encode(
        list(texts),
        prompt="",
        normalize_embeddings=True,
        batch_size=1,
        show_progress_bar=False,
    )
    return rows


def torch_logits(folder: Path, pairs: Sequence[tuple[str, str]]) -> Rows:
    """n pairs of texts -> (n,) logits of the trained reranker."""
    import torch
    from sentence_transformers import CrossEncoder

    with silence():
        model: CrossEncoder = CrossEncoder(str(folder), device="cpu")
    logits: Rows = model.predict(
        list(pairs), activation_fn=torch.nn.Identity(), batch_size=1, show_progress_bar=False
    )
    return logits.reshape(len(pairs))


def onnx_logits(folder: Path, file: str, pairs: Sequence[tuple[str, str]]) -> Rows:
    """n pairs of texts -> (n,) logits of an exported reranker."""
    import numpy as np
    from onnxruntime import InferenceSession
    from transformers import AutoTokenizer

    session = InferenceSession(folder / file, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = [given.name for given in session.get_inputs()]
    longest = min(LONGEST, tokenizer.model_max_length)
    logits = []
    for first, second in pairs:
        read = tokenizer(first, second, truncation=True, max_length=longest, return_tensors="np")
        inputs = {name: read[name].astype(np.int64) for name in names}
        logits.append(session.run(["logits"], inputs)[0][0, 0])
    return np.array(logits, np.float32)
