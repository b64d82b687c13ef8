"""The fields of a row as a published file has them, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from byheart_store import InvalidInput

T = TypeVar("T")
Row = Mapping[str, Any]

_KINDS: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object"}


def checked(value: object, kind: type[T], where: str) -> T:
    """The value, which has to be of this kind.

    Raises:
        InvalidInput: it is not; the message names where it stands.
    """
    if isinstance(value, kind):
        return value
    missing = "is missing" if value is None else f"must be {_KINDS[kind]}"
    raise InvalidInput(f"{where}: {missing}; give the file as it was published")


def field(row: Row, name: str, kind: type[T], where: str) -> T:
    """A field that has to be of this kind.

    Raises:
        InvalidInput: it is not.
    """
    return checked(row.get(name), kind, f"{where}: {name}")


def identifier(row: Row, name: str, where: str) -> str:
    """A field that names something.

    Raises:
        InvalidInput: it is no name.
    """
    return as_identifier(row.get(name), f"{where}: {name}")


def as_identifier(value: object, where: str) -> str:
    """A name as a text: files made by hand number their questions.

    Raises:
        InvalidInput: it is no name.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked(value, str, where)


def query_text(row: Row, name: str, where: str) -> str:
    """A field that asks something.

    Raises:
        InvalidInput: it is no text, or holds nothing but white space.
    """
    text = field(row, name, str, where)
    if not text.strip():
        raise InvalidInput(f"{where}: {name}: is empty; say what to look for")
    return text
