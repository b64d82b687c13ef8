"""One line of a file as one memory: a JSONL export, or a BEIR corpus."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from byheart_store.errors import InvalidInput
from byheart_store.inputs import parse_time
from byheart_store.interchange.source import Row
from byheart_store.records import NAME_FIELDS, TIME_FIELDS, NewMemory

_FIELDS = frozenset(one.name for one in fields(NewMemory))

_ABOUT = _FIELDS - {"id", "text", "metadata"}
"""What BEIR's `metadata` may tell of a memory itself."""


def memory_of_beir(row: Row) -> NewMemory:
    """A memory from a line of a BEIR corpus; `metadata` that names no field stays metadata."""
    about = _object(row, "metadata")
    told = {name: value for name, value in about.items() if name in _ABOUT}
    kept = {name: value for name, value in about.items() if name not in _ABOUT}
    if "at" not in told and "time" in kept:
        told["at"] = kept.pop("time")
    title, text = _text(row, "title"), _text(row, "text")
    told["id"] = row.get("_id")
    told["text"] = "\n".join(part for part in (title, text) if part)
    return _memory(told, kept)


def memory_of_line(row: Row) -> NewMemory:
    """A memory from a line that `write_jsonl` wrote, or a person.

    Raises:
        InvalidInput: a field is not known, or not of its kind.
    """
    unknown = next((name for name in row if name not in _FIELDS), None)
    if unknown is not None:
        raise InvalidInput(
            f"{unknown[:60]!r} is no field of a memory; put it under metadata, "
            f"or use one of {', '.join(sorted(_FIELDS))}"
        )
    return _memory(row | {"text": _text(row, "text")}, _object(row, "metadata"))


def _memory(row: Row, metadata: Row) -> NewMemory:
    values: dict[str, Any] = {name: _short(row, name) for name in NAME_FIELDS}
    values |= {name: _time(row, name) for name in TIME_FIELDS}
    return NewMemory(
        text=row["text"], turn=_turn(row), tags=_tags(row), metadata=metadata, **values
    )


def _text(row: Row, name: str) -> str:
    value = row.get(name) or ""
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: must be a text, not {_kind(value)}")
    return value


def _short(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    # Files made by hand number their sessions and ids.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidInput(f"{name}: must be a text, not {_kind(value)}")


def _time(row: Row, name: str) -> datetime | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name}: must be a text like 2026-03-14T09:30:00Z, not {_kind(value)}")
    return parse_time(value, name)


def _turn(row: Row) -> int | None:
    value = row.get("turn")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise InvalidInput(f"turn: must be a whole number, not {_kind(value)}")


def _tags(row: Row) -> tuple[str, ...]:
    value = row.get("tags")
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(value)
    raise InvalidInput("tags: must be a list of texts")


def _object(row: Row, name: str) -> Row:
    value = row.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{name}: must be an object, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a list" if isinstance(value, list) else "an object")
