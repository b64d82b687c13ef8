"""The command line, called in this process on a store of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import Call


@pytest.fixture
def byheart(home: Path, command_at: Callable[[Path], Call]) -> Call:
    """Call a command; `stdin` is what it is piped."""
    return command_at(home)
