"""Moments in UTC, and ids that tell when they were made."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import uuid_utils


def iso(moment: datetime | None) -> str | None:
    """A UTC moment as ISO 8601 ending in Z, without a fraction where it is zero."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def uuid7() -> str:
    """A new id that sorts by the time it was made."""
    return str(uuid_utils.uuid7())


def seconds_since(name: str) -> float | None:
    """How long ago a `uuid7` id was made, by this machine's clock; None for any other text."""
    try:
        value = UUID(name)
    except ValueError:
        return None
    return now().timestamp() - (value.int >> 80) / 1000 if value.version == 7 else None
