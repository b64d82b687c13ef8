"""What a ByHeart process is told from outside, read once at its edge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from byheart_store import InvalidInput

_SWITCH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the store is and how it is opened.

    `uri` names a database elsewhere; `model` None means the store's own model.
    """

    home: Path
    uri: str | None = None
    model: str | None = None
    log_recalls: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read BYHEART_HOME, BYHEART_URI, BYHEART_MODEL and BYHEART_LOG_RECALLS.

        Raises:
            InvalidInput: BYHEART_LOG_RECALLS is neither on nor off.
        """
        home = environ.get("BYHEART_HOME")
        return cls(
            home=Path(home).expanduser().absolute() if home else default_home(),
            uri=environ.get("BYHEART_URI") or None,
            model=environ.get("BYHEART_MODEL") or None,
            log_recalls=_switch(environ.get("BYHEART_LOG_RECALLS") or "on"),
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
