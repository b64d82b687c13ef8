"""Lone surrogates in what clients send: replaced, so that the message can be read at all.

JavaScript clients send them, the SDK's parser refuses the whole message, and a refused message
is never answered.
"""

from __future__ import annotations

import io
import json
import os

from byheart_store.inputs import as_utf8


class RepairedInput(io.TextIOWrapper):
    """UTF-8 lines of JSON in which lone surrogates read as U+FFFD."""

    @classmethod
    def take_stdin(cls) -> RepairedInput:
        """Move the process's standard input here, so that children read from the null device."""
        wire = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return cls(os.fdopen(wire, "rb"), encoding="utf-8", errors="replace")

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """The next line, repaired."""
        line = super().readline(size)
        return repaired(line) if "\\ud" in line or "\\uD" in line else line


def repaired_body(body: bytes) -> bytes:
    """The body of an HTTP request, repaired as a line of stdin is."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return repaired(body.decode(errors="replace")).encode()


def repaired(text: str) -> str:
    """JSON, on one line, with lone surrogates replaced by U+FFFD; what is no JSON stays."""
    try:
        return as_utf8(json.dumps(json.loads(text), ensure_ascii=False)) + "\n"
    except (ValueError, RecursionError):
        return text
