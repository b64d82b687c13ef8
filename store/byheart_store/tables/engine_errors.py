"""What the disk and the engine say when an access fails, told as errors of ours.

Depends on LanceDB 0.40: failures are OSError or RuntimeError, a system error is named by its number
("os error 28"), a line may end with the place in the engine's source, a commit that another writer
has overtaken says "conflict" or "not found", and a panic of the engine is a BaseException.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from byheart_store.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


class Located(Protocol):
    """Something that lies in a folder or at a URI."""

    @property
    def location(self) -> str:
        """The folder or the URI."""


S = TypeVar("S", bound=Located)

_OVERTAKEN = re.compile(r"conflict|not found", re.IGNORECASE)
_PLACE_IN_ENGINE = re.compile(r", \S+\.rs:\d+:\d+$")
_SYSTEM_ERROR = re.compile(r"\(os error (\d{1,9})\)")
_NO_ROOM = (
    {39, 112}  # ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL
    if os.name == "nt"
    else {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
)
_REFUSALS = ("permission denied", "read-only file system", "not permitted")


@contextmanager
def storage_errors(location: str) -> Iterator[None]:
    """Turn what the disk or the engine says of a failed access into one clear line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = _PLACE_IN_ENGINE.sub("", reason)[:300]
        if _is_full(error):
            raise StoreUnavailable(
                f"the disk is full ({reason}); what was acknowledged is safe; "
                f"make room where {location} lies and try again"
            ) from error
        raise StoreUnavailable(
            f"the store at {location} can't be used: {reason}; {_advice(location, error)}"
        ) from error


def with_storage_errors(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """What the disk or the engine says of a failed access becomes a `StoreUnavailable`."""

    @wraps(method)
    async def access(store: S, /, *args: P.args, **named: P.kwargs) -> T:
        with storage_errors(store.location):
            return await method(store, *args, **named)

    return access


def _advice(location: str, error: Exception) -> str:
    if "://" in location:
        return "check that it can be reached and what the key may do, and try again"
    if _is_refused(error):
        return "check the folder's permissions and the free space, or choose another --home"
    return "its files may be damaged; look, and mend: byheart doctor"


def _is_refused(error: Exception) -> bool:
    """Whether the system refused access, rather than the engine what it read."""
    is_engines = isinstance(error, RuntimeError) or "lance" in str(error).lower()
    return not is_engines or any(word in str(error).lower() for word in _REFUSALS)


def _is_full(error: Exception) -> bool:
    """Whether no room was left; the engine tells the system's error by its number alone."""
    numbers = {getattr(error, "errno", None), *map(int, _SYSTEM_ERROR.findall(str(error)))}
    return not numbers.isdisjoint(_NO_ROOM)


def is_overtaken(error: RuntimeError) -> bool:
    """Whether a commit failed because another writer has changed what it was based on."""
    return _OVERTAKEN.search(str(error)) is not None


def is_panic(error: BaseException) -> bool:
    """Whether the engine, which is written in Rust, has panicked, at once or in a task."""
    return type(error).__name__ in ("PanicException", "RustPanic")
