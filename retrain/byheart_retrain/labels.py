"""Labels: which memories answer a question and which do not, from files and from a store's log.

jsonl  an object a line: {"query", "positives": [memory ids]}, and where known "negatives",
       "namespace", "type" and "id"
beir   a folder with queries and qrels, as `benchmarks` reads it
qrels  a file of judgements, with the queries.jsonl that they are about
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from byheart_retrain.benchmarks import Query, _beir_query, _content, _qrels, load
from byheart_store import Filter, InvalidInput, Label, MemoryStore
from byheart_store.inputs import checked_query
from byheart_store.interchange import json_objects

FILE = "file"
"""The source of labels that no recall of the store led to."""

_EXAMPLE = '{"query": "...", "positives": ["memory id"]}'

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCounts:
    """What of the labels is of use in a store.

    `dropped` labels speak of memories that the store does not hold where the question is asked;
    `left_out` questions have no positive label left. `sources` counts the labels of each source.
    """

    queries: int
    positives: int
    negatives: int
    dropped: int
    left_out: int
    sources: Mapping[str, int]

    @property
    def labels(self) -> int:
        """The number of labels that are of use."""
        return self.positives + self.negatives


def read_labels(path: Path, queries: Path | None = None) -> list[Query]:
    """The labelled questions of a file or folder, each question once in a namespace.

    With `queries` the path is that of qrels; a BEIR folder's own queries file is replaced.

    Raises:
        InvalidInput: a file or line can't be read; the message says which and why.
    """
    if path.is_dir():
        found = load(path, "beir", queries).queries
    elif queries is not None:
        found = _from_qrels(path, queries)
    else:
        found = _from_lines(path)
    return merged(found)


def merged(queries: Iterable[Query]) -> list[Query]:
    """Each question once in a namespace; of two judgements of a memory the later one counts.

    Questions that share an id, as those of two files may, are numbered.
    """
    found: dict[tuple[str, str | None], Query] = {}
    for query in queries:
        key = (query.text, query.namespace)
        found[key] = _both(found[key], query) if key in found else query
    uses = Counter(query.id for query in found.values())
    return [
        replace(query, id=f"{query.id} ({number})") if uses[query.id] > 1 else query
        for number, query in enumerate(found.values(), start=1)
    ]


async def store_queries(store: MemoryStore) -> list[Query]:
    """The labels of the store's own recalls."""
    return labelled_queries(await store.labels())


def labelled_queries(labels: Iterable[Label]) -> list[Query]:
    """One query per question and namespace, of those that something was found useful for."""
    found: dict[tuple[str, str], list[Label]] = {}
    for label in labels:
        found.setdefault((label.query, label.namespace), []).append(label)
    useful = [own for own in found.values() if any(label.useful for label in own)]
    return [_of_labels(f"label-{number}", own) for number, own in enumerate(useful)]


async def usable(store: MemoryStore, queries: Sequence[Query]) -> tuple[list[Query], LabelCounts]:
    """The questions that memories of the store answer, and what was left out.

    A question without a namespace gets that of its answers where they have one in common.

    Raises:
        InvalidInput: no question is left.
    """
    named = {name for query in queries for name in query.gold | query.negatives}
    held = {
        memory.id: memory.namespace
        async for memory in store.memories(Filter())
        if memory.id in named
    }
    placed = merged(_placed(query, held) for query in queries)
    kept = [query for query in placed if query.gold]
    if not kept:
        raise InvalidInput(_nothing_left(len(placed)))
    sources = {
        (label.query, label.namespace, label.memory_id): label.source
        for label in await store.labels()
    }
    pairs = [(query, name) for query in kept for name in sorted(query.gold | query.negatives)]
    return kept, LabelCounts(
        queries=len(kept),
        positives=sum(len(query.gold) for query in kept),
        negatives=sum(len(query.negatives) for query in kept),
        dropped=_count(queries) - _count(_placed(query, held) for query in queries),
        left_out=len(placed) - len(kept),
        sources=Counter(
            sources.get((query.text, query.namespace or "", name), FILE) for query, name in pairs
        ),
    )


def _nothing_left(count: int) -> str:
    if not count:
        return "labels: there are none; label some recalls first: byheart label"
    return (
        f"labels: no memory that answers one of the {count} questions is in the store, in the "
        "namespace where it is asked; import the memories that the labels speak of: byheart import"
    )


def _placed(query: Query, held: Mapping[str, str]) -> Query:
    """The query with the memories that can be found where it is asked."""
    where = {held[name] for name in query.gold if name in held}
    namespace = query.namespace or (min(where) if len(where) == 1 else None)
    gold, negatives = (
        frozenset(name for name in names if name in held and namespace in (None, held[name]))
        for names in (query.gold, query.negatives)
    )
    return replace(query, namespace=namespace, gold=gold, negatives=negatives)


def _count(queries: Iterable[Query]) -> int:
    return sum(len(query.gold) + len(query.negatives) for query in queries)


def _both(first: Query, later: Query) -> Query:
    return replace(
        first,
        gold=first.gold - later.negatives | later.gold,
        negatives=first.negatives - later.gold | later.negatives,
        type=later.type or first.type,
    )


def _of_labels(name: str, labels: Sequence[Label]) -> Query:
    useful, useless = (
        frozenset(label.memory_id for label in labels if label.useful is wanted)
        for wanted in (True, False)
    )
    types = [label.type for label in labels if label.useful]
    one = labels[0]
    return Query(name, one.query, useful, one.namespace, types[-1], negatives=useless)


def _from_qrels(path: Path, queries: Path) -> list[Query]:
    gold = _qrels(path)
    rows = enumerate(json_objects(queries), start=1)
    asked = [_beir_query(row, gold, f"{queries}: query {number}") for number, row in rows]
    unknown = gold.keys() - {query.id for query in asked}
    if unknown:
        raise InvalidInput(
            f"{path}: judges {min(unknown)[:60]!r}, which {queries} does not ask; "
            "give the queries that were judged"
        )
    return asked


def _from_lines(path: Path) -> list[Query]:
    # Not splitlines: JSON may hold other line breaks as they are.
    lines = enumerate(_content(path).split("\n"), start=1)
    found = [_of_line(line, path, number) for number, line in lines if line.strip()]
    if not found:
        raise InvalidInput(f"{path}: holds no question; write one a line: {_EXAMPLE}")
    return found


def _of_line(line: str, path: Path, number: int) -> Query:
    try:
        return _of_row(_object(line), f"{path.name}:{number}")
    except InvalidInput as error:
        raise InvalidInput(f"{path}:{number}: {error}") from None


def _object(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"is not JSON ({error}); write {_EXAMPLE}, or give qrels together with their queries"
        ) from None
    if not isinstance(row, dict):
        raise InvalidInput(f"is not a JSON object; write {_EXAMPLE}")
    return row


def _of_row(row: Row, position: str) -> Query:
    positives, negatives = _ids(row, "positives"), _ids(row, "negatives")
    both = positives & negatives
    if both:
        raise InvalidInput(f"{min(both)[:60]!r} is both positive and negative; choose one")
    if not positives | negatives:
        raise InvalidInput("positives: name the ids of the memories that answer the question")
    text = _name(row, "query")
    if text is None:
        raise InvalidInput("query: is missing; give the question as a text")
    return Query(
        _name(row, "id") or position,
        checked_query(text),
        positives,
        _name(row, "namespace"),
        _name(row, "type"),
        negatives=negatives,
    )


def _ids(row: Row, name: str) -> frozenset[str]:
    values = row.get(name)
    if values is None:
        return frozenset()
    if not isinstance(values, list) or not all(map(_names, values)):
        raise InvalidInput(f"{name}: must be a list of memory ids")
    return frozenset(map(str, values))


def _name(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if not _names(value):
        raise InvalidInput(f"{name}: must be a text that is not empty")
    return str(value)


def _names(value: object) -> bool:
    # Files made by hand number their questions and memories.
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, str) and bool(value.strip()))
