"""How long work tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int | None], None]
"""Takes how much is done, and of how much once that is known."""

Advance: TypeAlias = Callable[[int], None]
"""Takes how much more is done."""

Show: TypeAlias = Callable[[str], AbstractContextManager[Progress]]
"""Shows a stage of the work by its name."""


def counting(show: Progress, total: int) -> Advance:
    """Turn `how many more` into `how many so far, of how many`."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        show(done, total)

    return more
