"""How stores of earlier formats become readable: one named function per step.

A migration runs under the write lock, before anything else reads the store, and may be run again
after a crash in its middle. It never drops what it can't rebuild.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from lancedb.table import AsyncTable

Migration: TypeAlias = "Callable[[AsyncTable, AsyncTable, AsyncTable], Awaitable[None]]"

FROM_FORMAT: Mapping[int, Migration] = {}
"""The step that leads from each format to the next."""
