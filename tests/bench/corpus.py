"""Texts to remember and to ask for: real ones from installed packages, generated ones by Zipf."""

from __future__ import annotations

import ast
import json
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byheart_store.models.passages import EMBEDDED

Vectors = NDArray[np.float32]

SHORTEST, LONGEST = 30, 400
"""Characters of a real text: what is said in one turn."""
FEWEST_WORDS, MOST_WORDS = 5, 45

MEMORIES_PER_CLUSTER = 200
MOST_TOPICS = 1_000
SPREAD = 0.6
"""Length of the random vector that is added to a unit one; two of a cluster have a cosine of .74"""

_TEXTS_AT_ONCE = 10_000
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib"}


@lru_cache
def real_texts() -> tuple[str, ...]:
    """Every paragraph of the standard library's and numpy's docstrings, in the order of files."""
    found: dict[str, None] = {}
    for folder in (Path(sysconfig.get_paths()["stdlib"]), Path(np.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            if _LEFT_OUT.isdisjoint(path.relative_to(folder).parts):
                found |= dict.fromkeys(_paragraphs(path))
    return tuple(found)


def _paragraphs(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some escapes of old modules are deprecated
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            return  # templates and files in other encodings
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        for paragraph in re.split(r"\n\s*\n", text or ""):
            line = " ".join(paragraph.split())
            if SHORTEST <= len(line) <= LONGEST:
                yield line


def vocabulary() -> list[str]:
    """The encoder's words, the most used ones first."""
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_text(encoding="utf-8"))
    return [word for word in tokenizer["model"]["vocab"] if word.isalpha() and len(word) > 1]


def generated_texts(count: int, seed: int) -> Iterator[str]:
    """Texts whose words are as unevenly spread as those of a language (Zipf's law)."""
    words = vocabulary()
    shares = np.cumsum(1 / np.arange(1, len(words) + 1))
    shares /= shares[-1]
    random_numbers = np.random.default_rng(seed)
    for first in range(0, count, _TEXTS_AT_ONCE):
        lengths = random_numbers.integers(
            FEWEST_WORDS, MOST_WORDS + 1, size=min(_TEXTS_AT_ONCE, count - first)
        )
        drawn = np.searchsorted(shares, random_numbers.random(lengths.sum())).tolist()
        start = 0
        for length in lengths.tolist():
            yield " ".join([words[place] for place in drawn[start : start + length]])
            start += length


class Clusters:
    """Unit vectors in clusters, whose centres lie about those of real texts, the topics."""

    def __init__(self, topics: Vectors, memories: int, seed: int) -> None:
        """(t, d) unit vectors of topics."""
        self._random = np.random.default_rng(seed)
        count = max(1, memories // MEMORIES_PER_CLUSTER)
        self._centres = self._near(topics[np.arange(count) % len(topics)])

    def vectors(self, numbers: NDArray[np.int64]) -> Vectors:
        """(n,) clusters -> (n, d) unit vectors."""
        return self._near(self._centres[numbers])

    def drawn(self, count: int) -> NDArray[np.int64]:
        """(n,) clusters for so many memories."""
        return self._random.integers(len(self._centres), size=count)

    def _near(self, centres: Vectors) -> Vectors:
        noise = self._random.standard_normal(centres.shape, dtype=np.float32)
        noise *= SPREAD / np.linalg.norm(noise, axis=1, keepdims=True)
        noise += centres
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        return noise


class Questions:
    """Questions without end, no two alike, each about one of the texts that are remembered."""

    def __init__(self, remembered: Sequence[str], topics: Sequence[str], seed: int) -> None:
        self._remembered, self._topics = remembered, topics
        self._random = random.Random(seed)
        self._asked: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Some words of a memory, for the text leg, and a phrase of a topic, for the other."""
        while True:
            words = self._random.choice(self._remembered).split()
            phrase = self._random.choice(self._topics).split()
            start = self._random.randrange(max(1, len(phrase) - 5))
            chosen = self._random.sample(words, k=min(4, len(words)))
            question = " ".join([*chosen, *phrase[start : start + 5]])
            if question not in self._asked:
                self._asked.add(question)
                return question
