"""Which texts have the same words, and what is linked by members in common."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_WORD = re.compile(r"\w+")


def words(text: str) -> tuple[str, ...]:
    """The words of a text as they are compared: without case and punctuation."""
    return tuple(_WORD.findall(text.casefold())) or (text.strip(),)


def linked(collections: Iterable[Collection[str]]) -> dict[str, str]:
    """Each member of a collection -> the smallest of all that it is linked to by collections."""
    parent: dict[str, str] = {}

    def first(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for names in collections:
        for name in names:
            parent.setdefault(name, name)
        roots = {first(name) for name in names}
        parent |= dict.fromkeys(roots, min(roots, default=""))
    return {name: first(name) for name in parent}
