"""Queries and their relevance judgements as BEIR and TREC write them: queries.jsonl and qrels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from byheart_retrain.queries.fields import Row, identifier, query_text
from byheart_retrain.queries.labelled_query import LabelledQuery
from byheart_store import InvalidInput
from byheart_store.interchange import content, json_objects

LARGEST_TABLE = 512 * 2**20
"""Bytes of qrels or labels: millions of judgements."""


def read_queries(path: Path, qrels: Mapping[str, set[str]]) -> list[LabelledQuery]:
    """The queries of a queries.jsonl, each with what `qrels` says of it.

    Raises:
        InvalidInput: the file or a line can't be read; the message says which and why.
    """
    return [_query(row, qrels, where) for row, where in _rows(path)]


def read_query_ids(path: Path) -> set[str]:
    """The ids in a queries.jsonl.

    Raises:
        InvalidInput: the file or a line can't be read; the message says which and why.
    """
    return {identifier(row, "_id", where) for row, where in _rows(path)}


def read_qrels(path: Path) -> dict[str, set[str]]:
    """Read `query-id corpus-id score` or TREC's `query-id 0 corpus-id score`, scores above 0.

    Raises:
        InvalidInput: the file or a line can't be read; the message says which and why.
    """
    gold: dict[str, set[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        parts = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or parts[-1] == "score":
            continue
        try:
            query, *_, memory, score = parts
            relevant = float(score) > 0
        except ValueError:
            raise InvalidInput(
                f"{path}:{number}: is no judgement; write query-id, corpus-id and score with tabs"
            ) from None
        if relevant:
            gold.setdefault(query, set()).add(memory)
    return gold


def read_text(path: Path, most: int = LARGEST_TABLE) -> str:
    """The whole text of a file of at most so many bytes.

    Raises:
        InvalidInput: it is missing, too large, or no UTF-8 text.
    """
    if not path.exists():
        raise InvalidInput(
            f"{path}: can't be read (No such file or directory); give a file of UTF-8 text"
        )
    return content(path, most)


def _rows(path: Path) -> Iterator[tuple[Row, str]]:
    """Each row, and how an error names it."""
    for number, row in enumerate(json_objects(path), start=1):
        yield row, f"{path}: query {number}"


def _query(row: Row, qrels: Mapping[str, set[str]], where: str) -> LabelledQuery:
    about = row.get("metadata") or {}
    if not isinstance(about, dict):
        raise InvalidInput(f"{where}: metadata must be an object")
    name = identifier(row, "_id", where)
    return LabelledQuery(
        name,
        query_text(row, "text", where),
        frozenset(qrels.get(name, ())),
        namespace=_optional(about, "namespace", where),
        type=_optional(about, "type", where),
    )


def _optional(row: Row, name: str, where: str) -> str | None:
    return None if row.get(name) is None else identifier(row, name, where)
