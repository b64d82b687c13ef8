"""Labels of the same question, from several sources, made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from byheart_retrain.queries import LabelledQuery


def merged(queries: Iterable[LabelledQuery]) -> list[LabelledQuery]:
    """Each question once in a namespace; of two judgements of a memory the later one counts.

    Questions that share an id, as those of two files may, are numbered.
    """
    by_question: dict[tuple[str, str | None], LabelledQuery] = {}
    for query in queries:
        key = (query.text, query.namespace)
        by_question[key] = _both(by_question[key], query) if key in by_question else query
    uses = Counter(query.id for query in by_question.values())
    return [
        replace(query, id=f"{query.id} ({number})") if uses[query.id] > 1 else query
        for number, query in enumerate(by_question.values(), start=1)
    ]


def _both(first: LabelledQuery, later: LabelledQuery) -> LabelledQuery:
    return replace(
        first,
        gold=first.gold - later.negatives | later.gold,
        negatives=first.negatives - later.gold | later.negatives,
        type=later.type or first.type,
    )
