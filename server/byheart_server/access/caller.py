"""The caller of the current request: what it sees of the store, and what it is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mcp.server.context import ServerRequestContext

from byheart_server.access.grants import OWNER, Grant
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

GRANT_KEY = "byheart.grant"
"""The key of an HTTP request's scope under which its grant stands."""

_ABOUT_THE_CALL = (InvalidInput, UnknownMemory, UnknownRecall, AccessDenied)

_RANKS = ("text_rank", "vector_rank", "cosine")
_SCORES = ("text_score", "score")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """A grant, and the program that uses it."""

    grant: Grant
    client: str | None

    @classmethod
    def of(cls, ctx: ServerRequestContext[Any, Any], *, over_http: bool) -> Caller:
        """Who sends a request.

        Raises:
            AccessDenied: over HTTP it came past the gateway without a grant.
        """
        if not over_http:
            return cls(OWNER, _client(ctx))
        grant = ctx.request.scope.get(GRANT_KEY) if ctx.request else None
        if grant is None:
            raise AccessDenied("the request brings no grant; send it through the server's gateway")
        return cls(grant, _client(ctx))

    def scoped(self, store: MemoryStore) -> MemoryStore:
        """The store limited to the caller's namespaces; what it writes names the caller."""
        origin = Origin(client=self.client, token=self.grant.name)
        return store.within(self.grant.namespaces, origin)

    @property
    def sees_paths(self) -> bool:
        """Whether paths on the server's disk may be named."""
        return self.grant.access == "admin"

    @property
    def explained_fields(self) -> tuple[str, ...]:
        """What may be told of a hit: scores of words count the texts of all namespaces."""
        if self.grant.namespaces is None:
            return _RANKS + _SCORES
        return _RANKS

    def error_text(self, error: ByHeartError) -> str:
        """An error as the caller may read it: no path on the server's disk unless it sees them."""
        if self.sees_paths or isinstance(error, _ABOUT_THE_CALL):
            return str(error)
        logger.warning("%s", error)
        if isinstance(error, StoreBusy):
            return "the store is busy, or still being opened; try again"
        return (
            "the store or its model can't be used; ask whoever runs the server, its log says more. "
            "This does not mean that nothing is known"
        )

    def notice_text(self, notice: str | None) -> str | None:
        """Why a search was partial, as the caller may read it."""
        if notice is None or self.sees_paths:
            return notice
        return f"{notice.partition(':')[0]}: the model is not ready; try again later"


_current: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the request being answered; raises LookupError outside of one."""
    return _current.get()


@contextmanager
def acting_for(caller: Caller) -> Iterator[None]:
    """Make this the current caller for as long as its request is being answered."""
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
