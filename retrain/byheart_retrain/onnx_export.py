"""From the weights that training leaves to the ONNX files that ByHeart serves.

Nothing counts as published until what is served was compared with what was trained.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store import InvalidInput, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from torch import nn

    Rows: TypeAlias = NDArray[np.float32]

FP32, INT8 = "onnx/model.onnx", "model.onnx"

FP32_LEAST = 0.9999
"""The least cosine of an fp32 export with its origin, whatever the text."""

INT8_MEAN = 0.98
"""The least mean cosine after quantisation; all-MiniLM-L6-v2 reaches 0.992."""

SCORES_APART, SCORES_ALIKE = 1e-3, 0.98
"""The most an exported logit may differ in fp32; the least correlation of logits in int8."""

_LONGEST = 512
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_SERVED_MODULES = {"Transformer", "Pooling", "Normalize"}

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


# ---------------------------------------------------------------------------------- publishing


def publish_onnx(folder: Path) -> Parity:
    """Export a sentence-transformers folder in place: fp32, then int8, which is what is served.

    byheart.json says afterwards how the model reads; what else it holds stays.

    Raises:
        InvalidInput: the folder holds a module that ByHeart does not serve.
        ModelUnavailable: a file can't be exported, or gives other vectors than the model.
    """
    model = _sentence_transformer(folder)
    declared = _declaration(folder, model)
    wanted = _encoded(model, [str(declared["passage_prefix"]) + text for text in SENTENCES])
    declared["dimension"] = int(wanted.shape[1])
    # The fp32 file is served, and so compared, as long as there is no other.
    (folder / INT8).unlink(missing_ok=True)
    export_onnx(folder, folder / FP32)
    _declare(folder, declared | {"sha256": sha256(folder / FP32)})
    exact = cosines(folder, SENTENCES, wanted)
    quantise(folder / FP32, folder / INT8)
    _declare(folder, declared | {"sha256": sha256(folder / INT8)})
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
    wanted = _torch_logits(folder, pairs)
    export_cross_encoder(folder, folder / FP32)
    apart = float(np.abs(_onnx_logits(folder, FP32, pairs) - wanted).max())
    quantise(folder / FP32, folder / INT8)
    alike = float(np.corrcoef(_onnx_logits(folder, INT8, pairs), wanted)[0, 1])
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


def _declaration(folder: Path, model: SentenceTransformer) -> dict[str, Any]:
    """How the model reads, in the words of byheart.json."""
    modules: dict[str, Any] = {type(module).__name__: module for module in model}
    if not {"Transformer", "Pooling"} <= set(modules) <= _SERVED_MODULES:
        raise InvalidInput(
            f"{folder}: is made of {', '.join(modules)}; ByHeart serves a Transformer with Pooling "
            "and Normalize alone, so start from such a base"
        )
    own = _read_json(folder / "byheart.json")
    prompts = {name: prompt or "" for name, prompt in model.prompts.items()}
    return {
        "pooling": str(modules["Pooling"].pooling_mode),
        "max_tokens": model.max_seq_length,
        "query_prefix": own.get("query_prefix", prompts.get("query", "")),
        "passage_prefix": own.get(
            "passage_prefix", prompts.get("document", prompts.get("passage", ""))
        ),
    }


def _declare(folder: Path, values: Mapping[str, Any]) -> None:
    """Set these keys of byheart.json."""
    path = folder / "byheart.json"
    text = json.dumps(_read_json(path) | dict(values), ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------------------- comparing


def cosines(folder: Path, texts: Sequence[str], wanted: Rows) -> Rows:
    """n texts, (n, d) unit rows -> (n,) cosines of what `folder` serves for the texts with them."""
    from byheart_store.models import load_encoder

    encoder = load_encoder(str(folder), cache_dir=folder)
    products: Rows = encoder.encode_passages(texts) * wanted
    found: Rows = products.sum(axis=1)
    return found


def torch_vectors(folder: Path, texts: Sequence[str]) -> Rows:
    """n texts -> (n, d) unit rows of the model whose weights lie in `folder`."""
    return _encoded(_sentence_transformer(folder), texts)


def _sentence_transformer(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    with _silence():
        return SentenceTransformer(str(folder), device="cpu")


def _encoded(model: SentenceTransformer, texts: Sequence[str]) -> Rows:
    rows: Rows = model.encode(
        list(texts),
        prompt="",
        normalize_embeddings=True,
        batch_size=1,
        show_progress_bar=False,
    )
    return rows


def _torch_logits(folder: Path, pairs: Sequence[tuple[str, str]]) -> Rows:
    """n pairs of texts -> (n,) logits of the trained reranker."""
    import torch
    from sentence_transformers import CrossEncoder

    with _silence():
        model: CrossEncoder = CrossEncoder(str(folder), device="cpu")
    logits: Rows = model.predict(
        list(pairs), activation_fn=torch.nn.Identity(), batch_size=1, show_progress_bar=False
    )
    return logits.reshape(len(pairs))


def _onnx_logits(folder: Path, file: str, pairs: Sequence[tuple[str, str]]) -> Rows:
    """n pairs of texts -> (n,) logits of an exported reranker."""
    import numpy as np
    from onnxruntime import InferenceSession
    from transformers import AutoTokenizer

    session = InferenceSession(folder / file, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = [given.name for given in session.get_inputs()]
    longest = min(_LONGEST, tokenizer.model_max_length)
    found = []
    for first, second in pairs:
        read = tokenizer(first, second, truncation=True, max_length=longest, return_tensors="np")
        inputs = {name: read[name].astype(np.int64) for name in names}
        found.append(session.run(["logits"], inputs)[0][0, 0])
    return np.array(found, np.float32)


# ---------------------------------------------------------------------------------- exporting


def export_onnx(source: Path, path: Path) -> None:
    """Write the transformer in `source` to `path`: fp32, any batch, any sequence length.

    Its output is `last_hidden_state`, to be pooled by who serves it.
    """
    from transformers import AutoModel

    with _silence():
        # Fused attention would be exported as one opaque and slower node.
        model = AutoModel.from_pretrained(source, attn_implementation="eager")
        _export(model, "last_hidden_state", ["input_ids", "attention_mask"], path)


def export_cross_encoder(source: Path, path: Path) -> None:
    """Write the cross-encoder in `source` to `path`: fp32, any batch, any sequence length.

    Its output is `logits`; its inputs are those that its tokenizer gives for a pair of texts.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with _silence():
        model = AutoModelForSequenceClassification.from_pretrained(
            source, attn_implementation="eager"
        )
        given = AutoTokenizer.from_pretrained(source)("first", "second")
        names = [name for name in _INPUTS if name in given]
        _export(model, "logits", names, path)


def _export(model: nn.Module, output: str, inputs: Sequence[str], path: Path) -> None:
    import torch

    class OneOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor | None = None,
        ) -> Any:
            kinds = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            found = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kinds)
            return getattr(found, output)

    config: Any = model.config
    # A batch or a length of 1 in the example would be frozen into the graph.
    ids = torch.randint(config.vocab_size, (3, 17), generator=torch.Generator().manual_seed(0))
    example = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    longest = min(_LONGEST, getattr(config, "max_position_embeddings", _LONGEST))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=longest)}
    try:
        program = torch.onnx.export(
            OneOutput().eval(),
            tuple(example[name] for name in inputs),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=dict.fromkeys(inputs, shape),
            verbose=False,
        )
    except Exception as error:
        raise ModelUnavailable(
            f"a {type(model).__name__} can't be exported to ONNX "
            f"({' '.join(str(error).split())[:300]}); train from another base"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_without_traces(program.model_proto, path)


def quantise(fp32: Path, int8: Path) -> None:
    """Dynamic int8, one scale per output channel; one per tensor loses a tenth more of a top 10."""
    import onnx
    from onnxruntime.quantization import (
        QuantType,
        quantize_dynamic,
    )

    with _silence():
        quantize_dynamic(fp32, int8, per_channel=True, weight_type=QuantType.QInt8)
    _write_without_traces(onnx.load(int8), int8)


def _write_without_traces(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` without the stack traces and file names that the exporter leaves in it."""
    clean = copy.deepcopy(model)
    graph = clean.graph
    for part in (clean, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    clean.ClearField("functions")
    path.write_bytes(clean.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what exporters print, log and warn of away from an output that may be JSON."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
