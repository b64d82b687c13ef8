"""When a memory of a benchmark happened, as its publishers write it."""

from __future__ import annotations

from datetime import UTC, datetime

from byheart_retrain.queries.fields import checked
from byheart_store import parse_time


def published_time(value: object, pattern: str, where: str) -> datetime | None:
    """A date as it is published, or as ISO 8601 writes it."""
    if not value:
        return None
    text = checked(value, str, f"{where}: date")
    try:
        return datetime.strptime(text.strip(), pattern).replace(tzinfo=UTC)
    except ValueError:
        return parse_time(text, "date")
