"""How likely something in the store answers a query, and how likely each hit does.

Two logistic models: one of the query, from how near its best memories are, and one of a hit, from
its rank and its distance to the first. Both know how many memories there were to choose from: the
best of a thousand is near by chance. Their product is a hit's relevance, so what nothing answers
has no relevant hit, however good it looks beside the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.ranking.stopwords import ENGLISH

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.floating]

_WORD = re.compile(r"\w+")
_PASSED_OVER = frozenset(ENGLISH)
_SATURATION = 2.2
"""k1 + 1 of LanceDB's BM25: what a word that fills a text counts at the most, times its rarity."""

NEAREST_CONSIDERED = 10
"""So many of the nearest tell whether any answers."""

_MOST_MEMORIES = 665
"""More than these were not seen when the defaults were fitted; their number counts no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Coefficients, the constant first; what is below `threshold` counts as not answerable.

    vectors   best cosine, mean of the best ten, logarithm of the number of memories
    words     where there are no vectors: best BM25 as a share of the best possible, the logarithm
    hit       distance to the first score, logarithms of rank and number, their product
    """

    vectors: tuple[float, ...] = (-7.7, 25.6, 5.8, -1.14)
    words: tuple[float, ...] = (-2.59, 57.65, -0.79)
    hit: tuple[float, ...] = (2.689, 0.071, -6.159, -0.489, 0.836)
    threshold: float = 0.5

    def answerable(
        self, text: Floats | None, cosines: Floats | None, most: float, memories: int
    ) -> float:
        """The probability that any of so many memories answers.

        The best n of them have (n,) BM25 scores, of which no text could exceed `most`, and (n,)
        cosines, n above 0; one may be None.
        """
        if cosines is not None:
            return float(_probabilities(self.vectors, query_features(cosines, memories)))
        if text is None:
            return 0.0
        share = min(1.0, float(text.max()) / most)
        return float(_probabilities(self.words, [share, _log(memories)]))

    def of_hits(self, scores: Floats, memories: int) -> Floats:
        """(k,) fused scores in rank order, of so many memories -> (k,) probabilities.

        They hold if anything answers at all.
        """
        return _probabilities(self.hit, hit_features(scores, memories))


def query_features(cosines: Floats, memories: int) -> Floats:
    """(n,) cosines of the best of so many memories -> (3,) best, mean of ten, logarithm."""
    import numpy as np

    count = min(NEAREST_CONSIDERED, len(cosines))
    best = np.partition(cosines, len(cosines) - count)[-count:]
    return np.array([best.max(), best.mean(), _log(memories)])


def hit_features(scores: Floats, memories: int) -> Floats:
    """(k,) fused scores in rank order, of so many memories -> (k, 4) features."""
    import numpy as np

    ranks, number = np.log(np.arange(1, len(scores) + 1)), _log(memories)
    columns = [scores - scores[:1], ranks, np.full(len(scores), number), ranks * number]
    return np.column_stack(columns)


def most_words_score(query: str, texts: int) -> float:
    """The BM25 score of a text full of every word of the query, were each in no other of `texts`.

    A share of it means the same in a small store, where no word can be rare, as in a large one.
    """
    words = {word for word in _WORD.findall(query.lower()) if word not in _PASSED_OVER}
    rarest = math.log(1 + max(texts - 0.5, 0.5) / 1.5)
    return max(len(words), 1) * _SATURATION * rarest


def _log(memories: int) -> float:
    return math.log(max(1, min(memories, _MOST_MEMORIES)))


def _probabilities(coefficients: Sequence[float], features: Floats | Sequence[float]) -> Floats:
    """(k + 1,) coefficients, the constant first, and (..., k) features -> (...,) probabilities."""
    import numpy as np

    logits = coefficients[0] + np.asarray(features) @ np.asarray(coefficients[1:])
    probabilities: Floats = 1 / (1 + np.exp(-np.maximum(logits, -80)))
    return probabilities
