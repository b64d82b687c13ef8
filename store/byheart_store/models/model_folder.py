"""Model folders: what `byheart.json` and sentence-transformers' files declare, read and written.

`byheart.json` overrules the other files. It says how the model reads (`pooling`, `max_tokens`,
`query_prefix`, `passage_prefix`, `dimension`), what its ONNX file is (`sha256`), where the model
comes from (`name`, `base`), and what was fitted for it (`tuning`, `reranker`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ModelUnavailable
from byheart_store.models import fastembed_internals
from byheart_store.models.encoder import Encoder, Reading
from byheart_store.models.opening import digests_of, first_run, open_model, reading_of
from byheart_store.models.reranker import declared_reranker
from byheart_store.models.verifying import one_line
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning

if TYPE_CHECKING:
    from fastembed import TextEmbedding

DECLARATION = "byheart.json"

_ONNX_FILES = ("model.onnx", "model_optimized.onnx", "onnx/model.onnx")
_POOLINGS = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST_TOKEN", "none": "DISABLED"}


def declared(folder: Path) -> dict[str, Any]:
    """What the folder's `byheart.json` says; nothing where there is none.

    Raises:
        ModelUnavailable: it is no JSON.
    """
    entries: dict[str, Any] = _json(folder / DECLARATION)
    return entries


def declare(folder: Path, **entries: object) -> None:
    """Set entries of the folder's `byheart.json`; what else it holds stays."""
    text = json.dumps(declared(folder) | entries, ensure_ascii=False, indent=2)
    (folder / DECLARATION).write_text(text + "\n", encoding="utf-8", newline="\n")


def load_folder(folder: Path, name: str, cache_dir: Path, threads: int) -> Encoder:
    """The encoder that a folder holds.

    Raises:
        ModelUnavailable: it is damaged, or not what the folder declares.
    """
    onnx = next((folder / file for file in _ONNX_FILES if (folder / file).is_file()), None)
    if onnx is None:
        raise ModelUnavailable(
            f"{folder} holds none of {', '.join(_ONNX_FILES)}; export the model to ONNX there, "
            "or name another model"
        )
    entries = _declaration(folder)
    tuning = _tuning(entries, folder)
    digest = digests_of(onnx, folder / "tokenizer.json")
    if entries.get("sha256", digest[0]) != digest[0]:
        raise ModelUnavailable(
            f"{onnx} is damaged: its SHA-256 is not the one in byheart.json; "
            "install or build the model again"
        )
    pooling = _pooling(entries, folder)
    reading = reading_of(name, entries, [*digest, pooling])
    served = _serve(folder, onnx, pooling, entries, reading, cache_dir)
    fastembed_internals.truncate(served, reading.max_tokens)
    encoder = first_run(served, reading, threads, onnx)
    if encoder.dimension != entries.get("dimension", encoder.dimension):
        raise ModelUnavailable(
            f"{folder} declares {entries['dimension']}-d vectors, {onnx.name} gives "
            f"{encoder.dimension}-d; export the model again"
        )
    encoder.tuning, encoder.reranker_file = tuning, declared_reranker(folder, entries)
    if tuning is not None and tuning.reranking.weight:
        _ = encoder.reranker  # loaded with the first model, so that no recall waits for it
    return encoder


def _declaration(folder: Path) -> dict[str, Any]:
    """What a folder says of itself: sentence-transformers' files, overruled by byheart.json."""
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    limit = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = limit or _json(folder / "tokenizer_config.json").get("model_max_length")
    entries = {
        "max_tokens": limit,
        "query_prefix": prompts.get("query", ""),
        "passage_prefix": prompts.get("document", prompts.get("passage", "")),
        **_modules(folder),
        **declared(folder),
    }
    return {key: value for key, value in entries.items() if value is not None}


def _modules(folder: Path) -> dict[str, Any]:
    """Pooling and dimension according to sentence-transformers' modules.json."""
    entries: dict[str, Any] = {}
    for module in _json(folder / "modules.json") or []:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            config = _json(folder / module["path"] / "config.json")
            entries["pooling"] = _pooling_mode(config)
            entries["dimension"] = config.get(
                "embedding_dimension", config.get("word_embedding_dimension")
            )
        elif kind not in ("Transformer", "Normalize"):
            entries["pooling"] = f"{kind} after pooling"
    return entries


def _pooling_mode(config: dict[str, Any]) -> str:
    """`pooling_mode` of today's folders, or the one flag that is set in older ones."""
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    flags = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
    named = [flag.removeprefix("pooling_mode_").split("_token")[0] for flag in flags]
    return "+".join(named)


def _pooling(entries: dict[str, Any], folder: Path) -> str:
    pooling = str(entries.get("pooling", "mean"))
    if pooling not in _POOLINGS:
        raise ModelUnavailable(
            f"{folder} pools by {pooling!r}, served are {', '.join(_POOLINGS)}; "
            'export the sentence vector itself and declare {"pooling": "none"} in byheart.json'
        )
    return pooling


def _tuning(entries: dict[str, Any], folder: Path) -> Tuning | None:
    """What was fitted for the model, which its vectors and so its fingerprint don't depend on."""
    if "tuning" not in entries:
        return None
    try:
        tuning = Tuning.from_dict(entries["tuning"])
    except (AttributeError, TypeError):
        tuning = None
    if tuning is None or _layout(tuning.as_dict()) != _layout(DEFAULT_TUNING.as_dict()):
        raise ModelUnavailable(
            f'{folder / "byheart.json"} declares a "tuning" that can\'t be read; restore the file, '
            "or delete that entry to rank with the defaults"
        )
    return tuning


def _layout(value: Any) -> Any:
    """What a JSON value is made of: the same for any two finite numbers."""
    if isinstance(value, dict):
        return {name: _layout(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_layout(part) for part in value]
    return isinstance(value, int | float) and math.isfinite(value)


def _serve(
    folder: Path,
    onnx: Path,
    pooling: str,
    entries: dict[str, Any],
    reading: Reading,
    cache_dir: Path,
) -> TextEmbedding:
    file = onnx.relative_to(folder).as_posix()
    name = f"byheart/{reading.fingerprint}/{file}"
    fastembed_internals.register_embedding(
        name,
        pooling=_POOLINGS[pooling],
        dimension=int(entries.get("dimension", 0)),
        file=file,
    )
    return open_model(name, cache_dir, onnx, specific_model_path=str(folder))


def _json(path: Path) -> Any:
    """The content of a JSON file; nothing when there is none."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnavailable(
            f"{path} is no JSON ({one_line(error)}); restore the file"
        ) from error
