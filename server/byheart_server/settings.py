"""What a ByHeart process is told from outside, read once at its edge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from byheart_store import Durability, InvalidInput

_SWITCH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the store is and how it is opened.

    `uri` names a database elsewhere; `model` None means the store's own model. What was forgotten
    is purged after `purge_after_days`, never where None.
    """

    home: Path
    uri: str | None = None
    model: str | None = None
    log_recalls: bool = True
    durability: Durability = "fsync"
    purge_after_days: float | None = 30.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read BYHEART_HOME, _URI, _MODEL, _LOG_RECALLS, _DURABILITY and _PURGE_AFTER_DAYS.

        Raises:
            InvalidInput: one of them has a value that it can't have.
        """
        home = environ.get("BYHEART_HOME")
        return cls(
            home=Path(home).expanduser().absolute() if home else default_home(),
            uri=environ.get("BYHEART_URI") or None,
            model=environ.get("BYHEART_MODEL") or None,
            log_recalls=_switch(environ.get("BYHEART_LOG_RECALLS") or "on"),
            durability=_durability(environ.get("BYHEART_DURABILITY") or "fsync"),
            purge_after_days=_days(environ.get("BYHEART_PURGE_AFTER_DAYS") or "30"),
        )


def default_home() -> Path:
    """The platform's folder for the data of this program."""
    from platformdirs import user_data_dir

    return Path(user_data_dir("byheart", appauthor=False))


def _switch(value: str) -> bool:
    try:
        return _SWITCH[value.strip().lower()]
    except KeyError:
        raise InvalidInput(f"BYHEART_LOG_RECALLS: {value!r} must be on or off") from None


def _durability(value: str) -> Durability:
    match value.strip().lower():
        case "fsync":
            return "fsync"
        case "os":
            return "os"
    raise InvalidInput(f"BYHEART_DURABILITY: {value!r} must be fsync or os")


def _days(value: str) -> float | None:
    if _SWITCH.get(value.strip().lower()) is False and value.strip() != "0":
        return None
    try:
        days = float(value)
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise InvalidInput(f"BYHEART_PURGE_AFTER_DAYS: {value!r} must be a number of days, or off")
    return days
