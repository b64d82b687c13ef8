"""What ByHeart needs of FastEmbed beyond its documented calls.

Depends on FastEmbed 0.9: the `model` of a `TextEmbedding` and of a `TextCrossEncoder` has a
`tokenizer`, a `_model_dir` and a `model_description`; models are registered by name in the process;
and a model that is in no cache is a ValueError that says "from any source".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastembed import TextEmbedding
    from fastembed.rerank.cross_encoder import TextCrossEncoder

_registry = threading.Lock()


def register_embedding(name: str, *, pooling: str, dimension: int, file: str) -> None:
    """Make a model of a folder known by a name; its vectors are pooled and normalised."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    with _registry:
        if all(known["model"] != name for known in TextEmbedding.list_supported_models()):
            TextEmbedding.add_custom_model(
                model=name,
                pooling=PoolingType[pooling],
                normalization=True,
                sources=ModelSource(hf=name),
                dim=dimension,
                model_file=file,
            )


def register_cross_encoder(name: str, *, file: str) -> None:
    """Make a reranker of a folder known by a name."""
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    with _registry:
        if all(known["model"] != name for known in TextCrossEncoder.list_supported_models()):
            TextCrossEncoder.add_custom_model(name, sources=ModelSource(hf=name), model_file=file)


def truncate(model: TextEmbedding, max_tokens: int) -> None:
    """Read as far as the folder declares: FastEmbed takes the least of several stale figures."""
    tokenizer: Any = getattr(model.model, "tokenizer", None)
    if tokenizer is not None:
        direction = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.enable_truncation(max_tokens, direction=direction)


def truncate_pairs(model: TextCrossEncoder, max_tokens: int) -> None:
    """Read so many tokens of a pair, and pad none: each run holds one."""
    tokenizer: Any = model.model.tokenizer  # type: ignore[attr-defined]
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()


def read_tokens(model: TextEmbedding) -> int | None:
    """How many tokens of a text a model of the catalogue reads, where it says so."""
    tokenizer: Any = getattr(model.model, "tokenizer", None)
    longest: int | None = (getattr(tokenizer, "truncation", None) or {}).get("max_length")
    return longest


def model_files(model: TextEmbedding) -> tuple[Path, Any]:
    """The folder where a model of the catalogue lies, and FastEmbed's description of it."""
    served: Any = model.model
    return Path(served._model_dir), served.model_description


def is_not_cached(error: BaseException | None) -> bool:
    """Whether FastEmbed found the model in no cache; any other error is of a damaged file."""
    return isinstance(error, ValueError) and "from any source" in str(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep FastEmbed's log of every attempt off the terminal: the error raised says it all."""
    from loguru import logger

    logger.disable("fastembed")
    try:
        yield
    finally:
        logger.enable("fastembed")
