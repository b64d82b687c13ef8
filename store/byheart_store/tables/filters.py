"""Filters as the SQL predicates that LanceDB takes before it searches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from byheart_store.inputs import checked_name
from byheart_store.records import Filter

ALL = "true"


def quoted(text: str) -> str:
    """A SQL string literal; the dialect has no escape but the doubled quote."""
    return "'" + text.replace("'", "''") + "'"


def listed(values: Iterable[str]) -> str:
    """A parenthesised SQL list of string literals; `values` must not be empty."""
    return "(" + ", ".join(quoted(value) for value in values) + ")"


def ids_predicate(ids: Iterable[str]) -> str:
    """The predicate that admits the memories with these ids; `ids` must not be empty.

    Raises:
        InvalidInput: one can't be an id.
    """
    return f"id IN {listed(checked_name(name, 'ids') or '' for name in ids)}"


def moment(value: datetime) -> str:
    """A SQL timestamp literal in UTC."""
    return f"TIMESTAMP {quoted(value.astimezone(UTC).isoformat(timespec='microseconds'))}"


def metadata_terms(metadata: Mapping[str, Any]) -> list[str]:
    """Each top-level pair as one canonical JSON text, so that equal pairs are equal texts."""
    return [
        json.dumps([key, value], ensure_ascii=False, sort_keys=True)
        for key, value in metadata.items()
    ]


def to_sql(where: Filter) -> str:
    """The predicate that admits exactly the rows that `where` describes."""
    conditions = [*_equalities(where), *_contained(where), *_times(where)]
    return " AND ".join(conditions) or ALL


def _equalities(where: Filter) -> list[str]:
    conditions = []
    if where.namespaces:
        conditions.append(f"namespace IN {listed(where.namespaces)}")
    for column in ("session", "speaker", "source"):
        value = getattr(where, column)
        if value is not None:
            conditions.append(f"{column} = {quoted(value)}")
    return conditions


def _contained(where: Filter) -> list[str]:
    wanted = {"tags": where.tags, "metadata_terms": metadata_terms(where.metadata)}
    return [
        f"array_has({column}, {quoted(value)})"
        for column, values in wanted.items()
        for value in values
    ]


def _times(where: Filter) -> list[str]:
    conditions = []
    if where.after is not None:
        conditions.append(f"at >= {moment(where.after)}")
    if where.before is not None:
        conditions.append(f"at < {moment(where.before)}")
    if where.as_of is not None:
        then = moment(where.as_of)
        conditions.append(f"created <= {then}")
        conditions.append(f"(replaced_at IS NULL OR replaced_at > {then})")
    elif not where.include_replaced:
        conditions.append("replaced_by IS NULL")
    return conditions
