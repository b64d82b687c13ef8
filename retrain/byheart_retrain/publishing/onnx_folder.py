"""From the weights that training leaves to the ONNX files that ByHeart serves.

Nothing counts as published until what is served was compared with what was trained.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_retrain.publishing.onnx_graphs import export_cross_encoder, export_onnx, quantise
from byheart_retrain.publishing.parity import (
    SENTENCES,
    Parity,
    cosines,
    encoded,
    onnx_logits,
    sentence_transformer,
    torch_logits,
)
from byheart_retrain.trainer_internals import modules_of, pooling_of
from byheart_store import InvalidInput, ModelUnavailable
from byheart_store.models import declare, declared

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FP32, INT8 = "onnx/model.onnx", "model.onnx"

FP32_LEAST = 0.9999
"""The least cosine of an fp32 export with its origin, whatever the text."""

INT8_MEAN = 0.98
"""The least mean cosine after quantisation; all-MiniLM-L6-v2 reaches 0.992."""

SCORES_APART, SCORES_ALIKE = 1e-3, 0.98
"""The most an exported logit may differ in fp32; the least correlation of logits in int8."""

_SERVED_MODULES = {"Transformer", "Pooling", "Normalize"}


def publish_onnx(folder: Path) -> Parity:
    """Export a sentence-transformers folder in place: fp32, then int8, which is what is served.

    byheart.json says afterwards how the model reads; what else it holds stays.

    Raises:
        InvalidInput: the folder holds a module that ByHeart does not serve.
        ModelUnavailable: a file can't be exported, or gives other vectors than the model.
    """
    model = sentence_transformer(folder)
    entries = _reading(folder, model)
    wanted = encoded(model, [str(entries["passage_prefix"]) + text for text in SENTENCES])
    entries["dimension"] = int(wanted.shape[1])
    # The fp32 file is served, and so compared, as long as there is no other.
    (folder / INT8).unlink(missing_ok=True)
    export_onnx(folder, folder / FP32)
    declare(folder, **entries, sha256=sha256(folder / FP32))
    exact = cosines(folder, SENTENCES, wanted)
    quantise(folder / FP32, folder / INT8)
    declare(folder, **entries, sha256=sha256(folder / INT8))
    served = cosines(folder, SENTENCES, wanted)
    parity = Parity(
        *(float(figure) for own in (exact, served) for figure in (own.min(), own.mean()))
    )
    _check(folder, parity)
    return parity


def publish_cross_encoder(folder: Path) -> float:
    """Export a CrossEncoder folder in place as int8 -> the correlation of its logits with torch's.

    Raises:
        ModelUnavailable: the model can't be exported, or scores otherwise than the trained one.
    """
    import numpy as np

    pairs = [(first, second) for first in SENTENCES for second in SENTENCES]
    wanted = torch_logits(folder, pairs)
    export_cross_encoder(folder, folder / FP32)
    apart = float(np.abs(onnx_logits(folder, FP32, pairs) - wanted).max())
    quantise(folder / FP32, folder / INT8)
    alike = float(np.corrcoef(onnx_logits(folder, INT8, pairs), wanted)[0, 1])
    if apart > SCORES_APART or not alike >= SCORES_ALIKE:
        raise ModelUnavailable(
            f"{folder}: the exported reranker scores otherwise than the trained one (fp32 up to "
            f"{apart:.4f} apart, at most {SCORES_APART}; int8 correlates at {alike:.3f}, at least "
            f"{SCORES_ALIKE}); train without a reranker, or from another base"
        )
    return alike


def _check(folder: Path, parity: Parity) -> None:
    if parity.fp32_least >= FP32_LEAST and parity.int8_mean >= INT8_MEAN:
        return
    # Nobody shall promote it.
    (folder / INT8).unlink()
    raise ModelUnavailable(
        f"{folder}: the exported model gives other vectors than the trained one (least cosine in "
        f"fp32 {parity.fp32_least:.5f}, needed {FP32_LEAST}; mean in int8 {parity.int8_mean:.4f}, "
        f"needed {INT8_MEAN}); train from another base"
    )


def _reading(folder: Path, model: SentenceTransformer) -> dict[str, Any]:
    """How the model reads, in the words of byheart.json."""
    modules = modules_of(model)
    if not {"Transformer", "Pooling"} <= set(modules) <= _SERVED_MODULES:
        raise InvalidInput(
            f"{folder}: is made of {', '.join(modules)}; ByHeart serves a Transformer with Pooling "
            "and Normalize alone, so start from such a base"
        )
    own = declared(folder)
    prompts = {name: prompt or "" for name, prompt in model.prompts.items()}
    return {
        "pooling": pooling_of(modules),
        "max_tokens": model.max_seq_length,
        "query_prefix": own.get("query_prefix", prompts.get("query", "")),
        "passage_prefix": own.get(
            "passage_prefix", prompts.get("document", prompts.get("passage", ""))
        ),
    }


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
