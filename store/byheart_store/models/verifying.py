"""What a file is, by its digest, and what went wrong with it, in a line."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(error: BaseException) -> str:
    """What an error says, on one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
