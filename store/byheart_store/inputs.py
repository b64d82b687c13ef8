"""What a store accepts: limits, and checks whose errors say what to send instead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from byheart_store.errors import InvalidInput

LONGEST_TEXT = 1_000_000
LONGEST_NAME = 200
LONGEST_QUERY = 10_000
LONGEST_METADATA = 100_000
DEEPEST_METADATA = 200
"""Python's parser gives up at a depth that depends on where it is called from."""
MOST_TAGS = 100
MOST_HITS = 1_000
LAST_TURN = 2**31 - 1


def as_utf8(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which UTF-8 can't hold, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def parse_time(value: str | date | datetime, name: str = "at") -> datetime:
    """Read an ISO 8601 date or moment as UTC; a date is its midnight, no zone means UTC.

    Raises:
        InvalidInput: the text is no date.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidInput(
                f"{name}: {str(value)[:60]!r} is no date; write 2026-03-14 or 2026-03-14T09:30:00Z"
            ) from None
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{name}: {value} lies outside the years 1 to 9999 in UTC") from None


def checked_limit(limit: int) -> int:
    """Raises InvalidInput unless 1 <= limit <= MOST_HITS."""
    if not 1 <= limit <= MOST_HITS:
        raise InvalidInput(f"limit: {limit} must be from 1 to {MOST_HITS}")
    return limit


def checked_query(query: str) -> str:
    """Raises InvalidInput when the query is empty or too long to mean one question."""
    query = as_utf8(query)
    if not query.strip():
        raise InvalidInput("query: is empty; say what to look for")
    if len(query) > LONGEST_QUERY:
        raise InvalidInput(
            f"query: has {len(query):,} characters, at most {LONGEST_QUERY:,}; ask in a sentence"
        )
    return query


def checked_name(value: str | None, name: str) -> str | None:
    """A short non-empty text such as a namespace or an id, or None."""
    if value is None:
        return None
    value = as_utf8(value)
    if not value.strip():
        raise InvalidInput(f"{name}: is empty; leave it out or give it a value")
    if len(value) > LONGEST_NAME:
        raise InvalidInput(f"{name}: has {len(value):,} characters, at most {LONGEST_NAME}")
    return value


def checked_time(value: datetime | None, name: str) -> datetime | None:
    """The moment in UTC, or None; a moment without a zone is UTC, whatever the machine's zone."""
    return None if value is None else parse_time(value, name)


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags in their order, each once."""
    if isinstance(tags, str):
        raise InvalidInput(f"tags: {tags!r} is one text; give a list of texts")
    if len(tags) > MOST_TAGS:
        raise InvalidInput(f"tags: {len(tags):,} given, at most {MOST_TAGS}")
    return tuple(dict.fromkeys(checked_name(tag, "tags") or "" for tag in tags))


def checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object of storable size, as JSON reads it back."""
    try:
        text = as_utf8(json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"metadata: is no JSON object ({error})") from None
    if len(text) > LONGEST_METADATA:
        raise InvalidInput(
            f"metadata: has {len(text):,} characters as JSON, at most {LONGEST_METADATA:,}"
        )
    value: dict[str, Any] = json.loads(text)
    if _is_deeper(value, DEEPEST_METADATA):
        raise InvalidInput(f"metadata: is nested more than {DEEPEST_METADATA} deep; flatten it")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [item for part in level if isinstance(part, dict | list) for item in _items(part)]
    return bool(level)


def _items(part: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part


def checked_text(text: str) -> str:
    """The text of a memory: neither empty nor longer than a memory may be."""
    text = as_utf8(text)
    if not text.strip():
        raise InvalidInput("text: is empty; give the words to remember")
    if len(text) > LONGEST_TEXT:
        raise InvalidInput(
            f"text: has {len(text):,} characters, a memory holds at most {LONGEST_TEXT:,}; "
            "store it in parts"
        )
    return text
