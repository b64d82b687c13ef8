"""Opening a model: what goes wrong becomes an error that names the file and the next step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ModelUnavailable
from byheart_store.models.encoder import Encoder, Reading
from byheart_store.models.verifying import one_line, sha256

if TYPE_CHECKING:
    from fastembed import TextEmbedding


def reading_of(name: str, entries: dict[str, Any], parts: Sequence[str]) -> Reading:
    """How a model reads; the fingerprint changes with all that its vectors depend on."""
    max_tokens = int(min(entries.get("max_tokens", 512), 1 << 20))
    prefixes = (str(entries.get("query_prefix", "")), str(entries.get("passage_prefix", "")))
    text = json.dumps([*parts, max_tokens, *prefixes])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Reading(name, fingerprint, max_tokens, *prefixes)


def open_model(name: str, cache_dir: Path, subject: Path, **options: Any) -> TextEmbedding:
    """Load a model with FastEmbed.

    Raises:
        ModelUnavailable: it can't be loaded.
    """
    from fastembed import TextEmbedding

    try:
        # Texts run side by side, one thread each: a second thread inside a run made queries no
        # faster (1.7 ms to 1.9) and imports slower (157 texts a second to 108 on two cores).
        return TextEmbedding(name, cache_dir=str(cache_dir), threads=1, **options)
    except Exception as error:
        raise ModelUnavailable(
            f"{subject} can't be loaded ({one_line(error)}); export, build or download it again"
        ) from error


def first_run(model: TextEmbedding, reading: Reading, threads: int, subject: Path | str) -> Encoder:
    """The encoder of a loaded model, once it has encoded a text.

    Raises:
        ModelUnavailable: it can't encode one.
    """
    try:
        return Encoder(model, reading, threads=threads)
    except Exception as error:
        raise ModelUnavailable(
            f"{subject} can't encode a text ({one_line(error)}); check its inputs and its pooling"
        ) from error


def digests_of(onnx: Path, *others: Path) -> list[str]:
    """SHA-256 of the ONNX file, of its external data, of the other files."""
    data = sorted(path for path in onnx.parent.glob(f"{onnx.name}*data") if path.is_file())
    files = [onnx, *data, *(path for path in others if path.is_file())]
    return [sha256(path) for path in files]
