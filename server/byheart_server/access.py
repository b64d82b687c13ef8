"""Who calls, and what they may: the grant behind a token, and the caller of the current request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mcp.server.context import ServerRequestContext

from byheart_store import (
    AccessDenied,
    ByHeartError,
    InvalidInput,
    MemoryStore,
    Origin,
    StoreBusy,
    UnknownMemory,
    UnknownRecall,
)
from byheart_store.inputs import LONGEST_NAME, as_utf8

Access = Literal["read", "write", "admin"]

GRANT = "byheart.grant"
"""The key of an HTTP request's scope under which its grant stands."""

_LEVELS: tuple[Access, ...] = get_args(Access)
_NEEDED: dict[str, Access] = {
    "recall": "read",
    "remember": "write",
    "feedback": "write",
    "forget": "write",
    "reindex": "admin",
}
_ABOUT_THE_CALL = (InvalidInput, UnknownMemory, UnknownRecall, AccessDenied)

_RANKS = ("text_rank", "vector_rank", "cosine")
_SCORES = ("text_score", "score")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows: an access, and the namespaces that it reaches, all where None."""

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


@dataclass(frozen=True, slots=True)
class Caller:
    """A grant, and the program that uses it."""

    grant: Grant
    client: str | None

    @classmethod
    def of(cls, ctx: ServerRequestContext[Any, Any], *, over_http: bool) -> Caller:
        """Who sends a request.

        Raises:
            AccessDenied: over HTTP it came past the door without a grant.
        """
        if not over_http:
            return cls(OWNER, _client(ctx))
        grant = ctx.request.scope.get(GRANT) if ctx.request else None
        if grant is None:
            raise AccessDenied("the request brings no grant; send it through the server's door")
        return cls(grant, _client(ctx))

    def reach(self, store: MemoryStore) -> MemoryStore:
        """The store as far as this caller reaches, which stamps what the caller brings."""
        origin = Origin(client=self.client, token=self.grant.name)
        return store.within(self.grant.namespaces, origin)

    @property
    def sees_server(self) -> bool:
        """Whether places on the server's disk may be named."""
        return self.grant.access == "admin"

    @property
    def explained(self) -> tuple[str, ...]:
        """What may be told of a hit: scores of words count the texts of all namespaces."""
        if self.grant.namespaces is None:
            return _RANKS + _SCORES
        return _RANKS

    def told(self, error: ByHeartError) -> str:
        """What the caller hears of an error: no place on the server's disk unless it may."""
        if self.sees_server or isinstance(error, _ABOUT_THE_CALL):
            return str(error)
        logger.warning("%s", error)
        if isinstance(error, StoreBusy):
            return "the store is busy, or still being opened; try again"
        return (
            "the store or its model can't be used; ask whoever runs the server, its log says more. "
            "This does not mean that nothing is known"
        )

    def noticed(self, notice: str | None) -> str | None:
        """What the caller hears of why a search was partial."""
        if notice is None or self.sees_server:
            return notice
        return f"{notice.partition(':')[0]}: the model is not ready; try again later"


_current: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the request being answered; raises LookupError outside of one."""
    return _current.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Answer a request of this caller."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def _client(ctx: ServerRequestContext[Any, Any]) -> str | None:
    """The program's own word for its name and version, on one line."""
    params = ctx.session.client_params
    if params is None:
        return None
    said = as_utf8(f"{params.client_info.name} {params.client_info.version}")
    printable = "".join(sign if sign.isprintable() else " " for sign in said)
    return " ".join(printable.split())[:LONGEST_NAME] or None
