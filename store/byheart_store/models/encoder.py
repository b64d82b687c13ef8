"""An encoder: texts to unit vectors, by any model that FastEmbed runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store.models.passages import well_formed
from byheart_store.models.reranker import Reranker, RerankerFile, load_reranker
from byheart_store.ranking.tuning import Tuning

if TYPE_CHECKING:
    import numpy as np
    from fastembed import TextEmbedding
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_TEXTS_PER_REPORT = 64
_BACKGROUND = 10
"""How nice a thread is that works in the background; 19 would be the nicest."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads a text."""

    name: str
    fingerprint: str
    max_tokens: int
    query_prefix: str
    passage_prefix: str


class Encoder:
    """Text to unit vectors; any number of threads may call it.

    A text's vector depends on the text alone. A dynamically quantised model scales by the largest
    number in its batch, and the same text in two batches of 32 came out at cosines down to 0.98;
    so each run holds one text, which needs no padding and measured as fast or faster.
    `tuning` is what was fitted for the model, and `reranker_file` is the second model that reads
    the best hits once more, where its folder brings them.
    """

    name: str
    fingerprint: str
    dimension: int
    max_tokens: int
    tuning: Tuning | None = None
    reranker_file: RerankerFile | None = None

    def __init__(self, model: TextEmbedding, reading: Reading, *, threads: int) -> None:
        self.name = reading.name
        self.fingerprint = reading.fingerprint
        self.max_tokens = reading.max_tokens
        self._model = model
        self._prefixes = (reading.query_prefix, reading.passage_prefix)
        self._threads = threads
        self.dimension = next(iter(model.query_embed("probe"))).size

    @cached_property
    def reranker(self) -> Reranker | None:
        """The second model, loaded when it is first asked for.

        Raises:
            ModelUnavailable: it is missing or damaged.
        """
        return (
            None
            if self.reranker_file is None
            else load_reranker(self.reranker_file, threads=self._threads)
        )

    def encode_query(self, text: str) -> Floats:
        """One query -> (d,) unit row."""
        return self._unit(self._model.query_embed([self._prefixes[0] + well_formed(text)]))

    def encode_passages(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        *,
        in_background: bool = False,
    ) -> Floats:
        """n passages -> (n, d) unit rows, in the order given.

        `progress` is called on the calling thread with the number of texts just done. In the
        background it yields to whatever else the process has to do, where the system knows how to.
        """
        if len(texts) == 1 and progress is None:
            return self._passage(texts[0])[None]  # threads would cost more than they save
        import numpy as np

        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        # Threads that work on texts of one length finish together.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        begin = _yield_to_others if in_background else None
        in_order = [texts[index] for index in order]
        with (
            ThreadPoolExecutor(self._threads, "encode", initializer=begin) as pool,
            # Whoever is interrupted does not wait for the rest.
            closing(pool.map(self._passage, in_order)) as encoded,  # type: ignore[type-var]
        ):
            for first in range(0, len(order), _TEXTS_PER_REPORT):
                chunk = order[first : first + _TEXTS_PER_REPORT]
                rows[chunk] = list(islice(encoded, len(chunk)))
                if progress is not None:
                    progress(len(chunk))
        return rows

    def _passage(self, text: str) -> Floats:
        return self._unit(self._model.passage_embed([self._prefixes[1] + well_formed(text)]))

    def _unit(self, vectors: Iterable[NDArray[Any]]) -> Floats:
        import numpy as np

        vector = np.asarray(next(iter(vectors)), dtype=np.float64)
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm < 1e-9:
            # A text without a direction is as far from one memory as from another.
            return np.full(self.dimension, self.dimension**-0.5, dtype=np.float32)
        return (vector / norm).astype(np.float32)


def _yield_to_others() -> None:
    """Let the calling thread run when no other wants to; only Linux knows of one thread's rank."""
    if sys.platform.startswith("linux"):
        rank = max(os.getpriority(os.PRIO_PROCESS, 0), _BACKGROUND)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), rank)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
