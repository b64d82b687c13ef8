"""What a token allows: an access level, and the namespaces that it covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from byheart_store import AccessDenied

Access = Literal["read", "write", "admin"]

_LEVELS: tuple[Access, ...] = get_args(Access)
_NEEDED: dict[str, Access] = {
    "recall": "read",
    "remember": "write",
    "feedback": "write",
    "forget": "write",
    "reindex": "admin",
}


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: an access level, and the namespaces it covers, all where None."""

    name: str | None
    access: Access
    namespaces: tuple[str, ...] | None

    def allows(self, tool: str) -> bool:
        """Whether the tool may be used."""
        return _LEVELS.index(self.access) >= _LEVELS.index(_NEEDED[tool])

    def check(self, tool: str) -> None:
        """Raises AccessDenied where the tool takes more than this grant gives."""
        if not self.allows(tool):
            raise AccessDenied(
                f"{tool} takes {_NEEDED[tool]} access, and this token has {self.access}; "
                "ask whoever runs the server"
            )


OWNER = Grant(None, "admin", None)
"""Whoever starts a server on their own machine, and speaks to it through its pipes."""
