"""What of a memory is shown: all of a short one, of a long one the best passage and around it."""

from __future__ import annotations

from collections.abc import Sequence

from byheart_store.models.passages import Span

LONGEST_EXCERPT = 4_000
"""Characters, about a thousand tokens; a longer memory is shown from its best passage outwards."""


def excerpt_span(text: str, passages: Sequence[Span], best: int) -> Span:
    """The whole text, or as many whole passages around the best one as may be shown."""
    if len(text) <= LONGEST_EXCERPT:
        return Span(0, len(text))
    first = last = best
    while True:
        wider = [(first - 1, last), (first, last + 1)]
        fitting = [
            (low, high)
            for low, high in wider
            if low >= 0
            and high < len(passages)
            and passages[high].end - passages[low].start <= LONGEST_EXCERPT
        ]
        if not fitting:
            return Span(passages[first].start, passages[last].end)
        # The narrower side grows, so that the match stays in the middle.
        first, last = min(fitting, key=lambda pair: abs((best - pair[0]) - (pair[1] - best)))
