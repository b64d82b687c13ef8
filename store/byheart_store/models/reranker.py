"""A cross-encoder: reads a query together with a passage and says how well the one answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ModelUnavailable
from byheart_store.models import fastembed_internals
from byheart_store.models.passages import count_tokens, well_formed
from byheart_store.models.verifying import one_line, sha256

if TYPE_CHECKING:
    import numpy as np
    from fastembed.rerank.cross_encoder import TextCrossEncoder
    from numpy.typing import NDArray

_FRAME = 3
"""Tokens that frame a pair."""
_PAIRS_KEPT = 512


@dataclass(frozen=True, slots=True)
class RerankerFile:
    """An ONNX file with its SHA-256, and how many tokens of a pair are read."""

    onnx: Path
    sha256: str
    max_tokens: int


class Reranker:
    """Scores of passages for a query; any number of threads may call it.

    As with the encoder each run holds one pair: a quantised model would scale it by the others.
    """

    def __init__(self, model: TextCrossEncoder, max_tokens: int, *, threads: int) -> None:
        """Not to be called; see `load_reranker`."""
        self._model = model
        self._max_tokens = max_tokens
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rerank")
        # A question that is asked again for more hits, or with another page, is not read again.
        self._score = lru_cache(maxsize=_PAIRS_KEPT)(self._read)

    def scores(self, query: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """k passages -> (k,) scores, higher where the passage answers the query better."""
        import numpy as np

        asked = [query] * len(passages)
        return np.array(list(self._pool.map(self._score, asked, passages)), np.float32)

    def tokens(self, query: str, passage: str) -> int:
        """How many tokens of the pair are read."""
        return min(self._max_tokens, count_tokens(query) + count_tokens(passage) + _FRAME)

    def _read(self, query: str, passage: str) -> float:
        pair = well_formed(query), [well_formed(passage)]
        return next(iter(self._model.rerank(*pair, batch_size=1)))


def declared_reranker(folder: Path, entries: Mapping[str, Any]) -> RerankerFile | None:
    """The reranker that a model folder's byheart.json speaks of.

    Raises:
        ModelUnavailable: the entry can't be read.
    """
    if "reranker" not in entries:
        return None
    try:
        entry = entries["reranker"]
        onnx = folder / entry["folder"] / "model.onnx"
        return RerankerFile(onnx, str(entry["sha256"]), int(entry["max_tokens"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(
            f'{folder / "byheart.json"} declares a "reranker" that can\'t be read; restore the '
            "file, or delete that entry to do without"
        ) from error


def load_reranker(file: RerankerFile, *, threads: int) -> Reranker:
    """The cross-encoder in a file.

    Raises:
        ModelUnavailable: it is missing, damaged, or can't be loaded.
    """
    if not file.onnx.is_file() or sha256(file.onnx) != file.sha256:
        raise ModelUnavailable(
            f"{file.onnx} is missing or damaged: its SHA-256 is not the one in byheart.json; "
            "train the model again"
        )
    try:
        reranker = Reranker(_served(file), file.max_tokens, threads=threads)
        reranker.scores("probe", ["probe"])
    except Exception as error:
        raise ModelUnavailable(
            f"{file.onnx} can't be loaded ({one_line(error)}); train the model again"
        ) from error
    return reranker


def _served(file: RerankerFile) -> TextCrossEncoder:
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    name = f"byheart/reranker-{file.sha256[:16]}"
    fastembed_internals.register_cross_encoder(name, file=file.onnx.name)
    model = TextCrossEncoder(name, threads=1, specific_model_path=str(file.onnx.parent))
    fastembed_internals.truncate_pairs(model, file.max_tokens)
    return model
