"""How likely something in the store answers a query, and how likely each hit does.

Two logistic models: one of the query, from how far its best memories stand out of all it could
have found, and one of a hit, from its rank and its distance to the first. Their product is a
hit's relevance, so what nothing answers has no relevant hit, however good it looks beside others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.stopwords import ENGLISH

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_WORD = re.compile(r"\w+")
_PASSED_OVER = frozenset(ENGLISH)
_SATURATION = 2.2
"""k1 + 1 of LanceDB's BM25: what a word that fills a text counts at the most, times its rarity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Coefficients, the constant first; what is below `threshold` counts as not answerable.

    both      best cosine, best BM25 as a share of the best possible, deviation and mean of cosines
    vectors   the same without BM25, where words were not asked
    words     the same without cosines, where there is no model
    hit       distance to the first hit's score, logarithm of the rank
    """

    both: tuple[float, ...] = (-20.39, 12.47, 26.97, 84.09, 11.41)
    vectors: tuple[float, ...] = (-18.68, 19.77, 85.0, 4.45)
    words: tuple[float, ...] = (-5.98, 44.28)
    hit: tuple[float, ...] = (-0.457, 0.086, -1.132)
    threshold: float = 0.5

    def answerable(self, features: Sequence[float], kind: str) -> float:
        """The probability that anything found answers; `kind` names the coefficients to use."""
        constant, *weights = getattr(self, kind)
        return _logistic(constant + sum(w * x for w, x in zip(weights, features, strict=True)))

    def of_hits(self, scores: Floats) -> Floats:
        """(k,) fused scores in rank order -> (k,) probabilities, if anything answers."""
        import numpy as np

        constant, gap, rank = self.hit
        ranks = np.arange(1, len(scores) + 1)
        logits = constant + gap * (scores - scores[:1]) + rank * np.log(ranks)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def query_features(text: Floats | None, cosines: Floats | None, most: float) -> list[float]:
    """What the query model reads, from (n,) BM25 scores and cosines of memories; n is above 0.

    `most` is the BM25 score that no text could exceed; see `most_words_score`.
    """
    features: list[float] = []
    if cosines is not None:
        features.append(float(cosines.max()))
    if text is not None:
        features.append(min(1.0, float(text.max()) / most))
    if cosines is not None:
        features += [float(cosines.std()), float(cosines.mean())]
    return features


def most_words_score(query: str, texts: int) -> float:
    """The BM25 score of a text full of every word of the query, were each in no other of `texts`.

    The same share of it means the same in a small store, where no word can be rare, as in a large.
    """
    words = {word for word in _WORD.findall(query.lower()) if word not in _PASSED_OVER}
    rarest = math.log(1 + max(texts - 0.5, 0.5) / 1.5)
    return max(len(words), 1) * _SATURATION * rarest


def _logistic(logit: float) -> float:
    if logit < -700:
        return 0.0
    return 1 / (1 + math.exp(-logit))
