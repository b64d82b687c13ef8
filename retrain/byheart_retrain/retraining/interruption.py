"""A training in a thread ends when the command that waits for it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from byheart_retrain.progress import Progress


class _Stopped(Exception):
    """The command was interrupted while a thread was training."""


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that is set when the work inside ends, by an interruption too."""
    stop = threading.Event()
    try:
        yield stop
    finally:
        stop.set()


def stoppable(show: Progress, stop: threading.Event) -> Progress:
    """Ends the training at its next step once nobody waits for it any more."""

    def step(done: int, total: int | None) -> None:
        if stop.is_set():
            raise _Stopped
        show(done, total)

    return step
