"""Encoders loaded once a process, that read each text once: most of what tests would wait for."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from pathlib import Path
from threading import Lock
from typing import Any

from byheart_store import models
from byheart_store.models import EMBEDDED, EMBEDDED_NAME, Encoder, loading

MOST_KEPT = 8
"""Tests copy model folders and alter them; each state of a folder is an encoder of its own."""
TEXTS_AT_ONCE = 64
LARGE = 64 * 1024
"""A file of so many bytes is known by its time, a smaller one by what it says."""

load_anew = loading.load_encoder
"""For tests of the loading itself."""

measuring = False
"""Whether the test that runs tells what reading takes: then nothing is kept."""

_loaded: OrderedDict[Hashable, Reader] = OrderedDict()
_loading = Lock()


def share() -> None:
    """From now on every store, command and server of this process shares what is loaded."""
    loading.load_encoder = models.load_encoder = load_once


def load_once(model: str | None, *, threads: int | None = None, **named: Any) -> Encoder:
    """As `load_encoder`, but files of one content are loaded once, wherever they lie."""
    if threads is None and "PYTEST_XDIST_WORKER" in os.environ:
        threads = 1  # there is a worker a core
    folder = EMBEDDED if model in (None, EMBEDDED_NAME) else Path(str(model)).expanduser().resolve()
    if measuring or not _is_one_encoder(folder):
        return load_anew(model, threads=threads, **named)
    key = (threads, *_state(folder))
    with _loading:
        if key not in _loaded:
            _loaded[key] = Reader(load_anew(model, threads=threads, **named))
        _loaded.move_to_end(key)
        if len(_loaded) > MOST_KEPT:
            _loaded.popitem(last=False)
        encoder = _loaded[key].as_encoder()
    encoder.name = EMBEDDED_NAME if folder == EMBEDDED else str(folder)
    return encoder


class Reader:
    """An encoder that keeps the vectors of what it has read: they depend on the text alone."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._passages: dict[str, Any] = {}
        self._queries: dict[str, Any] = {}

    def as_encoder(self) -> Encoder:
        encoder: Any = copy(self.encoder)
        encoder.encode_passages = self.encode_passages
        encoder.encode_query = self.encode_query
        return encoder  # type: ignore[no-any-return]

    def encode_query(self, text: str) -> Any:
        if text not in self._queries:
            self._queries[text] = self.encoder.encode_query(text)
        return self._queries[text].copy()

    def encode_passages(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        *,
        in_background: bool = False,
    ) -> Any:
        import numpy as np  # which looks up then how many threads it may have

        rows = [np.empty((0, self.encoder.dimension), np.float32)]
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[first : first + TEXTS_AT_ONCE]
            new = sorted({text for text in some if text not in self._passages})
            vectors = self.encoder.encode_passages(new, in_background=in_background)
            self._passages.update(zip(new, vectors, strict=True))
            rows.append(np.stack([self._passages[text] for text in some]))
            if progress is not None:
                progress(len(some))
        return np.concatenate(rows)


def _is_one_encoder(folder: Path) -> bool:
    declaration = folder / "byheart.json"
    return declaration.is_file() and "reranker" not in declaration.read_text()


def _state(folder: Path) -> list[Hashable]:
    """What an encoder depends on; whoever alters a file alters its bytes or its time."""
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        (
            path.relative_to(folder),
            stat.st_size,
            stat.st_mtime_ns if stat.st_size > LARGE else path.read_bytes(),
        )
        for path, stat in files
    ]
