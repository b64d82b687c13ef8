"""How much memory that is free again the C library keeps: by default an arena for each thread.

Some tens of threads take part in a query, so that a server would grow to twice what it uses.
"""

from __future__ import annotations

import ctypes
import os
import sys

_ARENA_MAX = -8
"""M_ARENA_MAX of mallopt(3)."""

ARENAS = 2


def limit_arenas() -> None:
    """Let few arenas serve all threads of this process, from now on; only glibc needs it."""
    # Before Arrow is imported: its own pools keep what is free as well.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    libc = _glibc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_ARENA_MAX, ARENAS)


def release_free_memory() -> None:
    """Return what is free to the system: worth some milliseconds after a large piece of work."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
