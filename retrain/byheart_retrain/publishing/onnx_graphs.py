"""From weights to ONNX files: the graph, quantised, without a trace of where it was made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_retrain.publishing.silence import silence
from byheart_store import ModelUnavailable

if TYPE_CHECKING:
    import onnx
    from torch import nn

LONGEST = 512
"""Tokens that an exported model reads at most."""

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export_onnx(source: Path, path: Path) -> None:
    """Write the transformer in `source` to `path`: fp32, any batch, any sequence length.

    Its output is `last_hidden_state`, to be pooled by who serves it.
    """
    from transformers import AutoModel

    with silence():
        # Fused attention would be exported as one opaque and slower node.
        model = AutoModel.from_pretrained(source, attn_implementation="eager")
        _export(model, "last_hidden_state", ["input_ids", "attention_mask"], path)


def export_cross_encoder(source: Path, path: Path) -> None:
    """Write the cross-encoder in `source` to `path`: fp32, any batch, any sequence length.

    Its output is `logits`; its inputs are those that its tokenizer gives for a pair of texts.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with silence():
        model = AutoModelForSequenceClassification.from_pretrained(
            source, attn_implementation="eager"
        )
        given = AutoTokenizer.from_pretrained(source)("first", "second")
        names = [name for name in _INPUTS if name in given]
        _export(model, "logits", names, path)


def _export(model: nn.Module, output: str, inputs: Sequence[str], path: Path) -> None:
    import torch

    config: Any = model.config
    # A batch or a length of 1 in the example would be frozen into the graph.
    ids = torch.randint(config.vocab_size, (3, 17), generator=torch.Generator().manual_seed(0))
    example = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    longest = min(LONGEST, getattr(config, "max_position_embeddings", LONGEST))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=longest)}
    try:
        program = torch.onnx.export(
            _with_one_output(model, output).eval(),
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


def _with_one_output(model: nn.Module, output: str) -> nn.Module:
    """The model, of which a caller gets this tensor alone."""
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
            outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kinds)
            return getattr(outputs, output)

    return OneOutput()


def quantise(fp32: Path, int8: Path) -> None:
    """Dynamic int8, one scale per output channel; one per tensor loses a tenth more of a top 10."""
    import onnx
    from onnxruntime.quantization import (
        QuantType,
        quantize_dynamic,
    )

    with silence():
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
