"""Encoders loaded once a process: to load the embedded model takes longer than most tests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from copy import copy
from pathlib import Path
from threading import Lock
from typing import Any

from byheart_store import models
from byheart_store.models import EMBEDDED, EMBEDDED_NAME, Encoder, loading

MOST_KEPT = 8
"""Tests copy model folders and alter them; each state of a folder is an encoder of its own."""
LARGE = 64 * 1024
"""A file of so many bytes is known by its time, a smaller one by what it says."""

load_anew = loading.load_encoder
"""For tests of the loading itself."""

_loaded: OrderedDict[Hashable, Encoder] = OrderedDict()
_loading = Lock()


def share() -> None:
    """From now on every store, command and server of this process shares what is loaded."""
    loading.load_encoder = models.load_encoder = load_once


def load_once(model: str | None, *, threads: int | None = None, **named: Any) -> Encoder:
    """As `load_encoder`, but files of one content are loaded once, wherever they lie."""
    folder = EMBEDDED if model in (None, EMBEDDED_NAME) else Path(str(model)).expanduser().resolve()
    if not _is_one_encoder(folder):
        return load_anew(model, threads=threads, **named)
    key = (threads, *_state(folder))
    with _loading:
        if key not in _loaded:
            _loaded[key] = load_anew(model, threads=threads, **named)
        _loaded.move_to_end(key)
        if len(_loaded) > MOST_KEPT:
            _loaded.popitem(last=False)
        encoder = copy(_loaded[key])
    encoder.name = EMBEDDED_NAME if folder == EMBEDDED else str(folder)
    return encoder


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
