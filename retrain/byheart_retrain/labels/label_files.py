"""Labels from files: which memories answer a question and which do not.

jsonl  an object a line: {"query", "positives": [memory ids]}, and where known "negatives",
       "namespace", "type" and "id"
beir   a folder with queries and qrels, as `benchmarks` reads it
qrels  a file of judgements, with the queries.jsonl that they are about
"""

from __future__ import annotations

import json
from pathlib import Path

from byheart_retrain.benchmarks import load
from byheart_retrain.labels.merging import merged
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.queries.fields import Row
from byheart_retrain.queries.readers import read_qrels, read_queries, read_text
from byheart_store import InvalidInput
from byheart_store.inputs import checked_query

_EXAMPLE = '{"query": "...", "positives": ["memory id"]}'


def read_labels(path: Path, queries: Path | None = None) -> list[LabelledQuery]:
    """The labelled questions of a file or folder, each question once in a namespace.

    With `queries` the path is that of qrels; a BEIR folder's own queries file is replaced.

    Raises:
        InvalidInput: a file or line can't be read; the message says which and why.
    """
    if path.is_dir():
        queries_read = load(path, "beir", queries).queries
    elif queries is not None:
        queries_read = _from_qrels(path, queries)
    else:
        queries_read = _from_lines(path)
    return merged(queries_read)


def _from_qrels(path: Path, queries: Path) -> list[LabelledQuery]:
    gold = read_qrels(path)
    asked = read_queries(queries, gold)
    unknown = gold.keys() - {query.id for query in asked}
    if unknown:
        raise InvalidInput(
            f"{path}: judges {min(unknown)[:60]!r}, which {queries} does not ask; "
            "give the queries that were judged"
        )
    return asked


def _from_lines(path: Path) -> list[LabelledQuery]:
    # Not splitlines: JSON may hold other line breaks as they are.
    lines = enumerate(read_text(path).split("\n"), start=1)
    queries = [_of_line(line, path, number) for number, line in lines if line.strip()]
    if not queries:
        raise InvalidInput(f"{path}: holds no question; write one a line: {_EXAMPLE}")
    return queries


def _of_line(line: str, path: Path, number: int) -> LabelledQuery:
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


def _of_row(row: Row, where: str) -> LabelledQuery:
    positives, negatives = _ids(row, "positives"), _ids(row, "negatives")
    both = positives & negatives
    if both:
        raise InvalidInput(f"{min(both)[:60]!r} is both positive and negative; choose one")
    if not positives | negatives:
        raise InvalidInput("positives: name the ids of the memories that answer the question")
    text = _name(row, "query")
    if text is None:
        raise InvalidInput("query: is missing; give the question as a text")
    return LabelledQuery(
        _name(row, "id") or where,
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
