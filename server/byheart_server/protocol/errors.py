"""What goes wrong in a call, worded for the client: one line that says what to do next."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator, Sequence

from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedToolError,
)
from pydantic import ValidationError

from byheart_server.access.caller import current_caller
from byheart_store import ByHeartError, UnknownMemory

LONGEST_ERROR = 1_000
"""Characters of an error: it may repeat what the caller gave, but not at any length."""

logger = logging.getLogger(__name__)


def unknown_tool(name: str, tools: Sequence[str]) -> ToolError:
    """There is no tool of this name."""
    return ToolError(
        f"there is no tool {name[:60]!r}{_suggestion(name, tools)} there are {', '.join(tools)}"
    )


def unknown_argument(tool: str, argument: str, known: Sequence[str]) -> ToolError:
    """The tool takes no argument of this name."""
    return ToolError(
        f"{tool} has no argument {argument[:60]!r}{_suggestion(argument, known)} "
        f"it takes {', '.join(known)}"
    )


def tool_error(tool: str, error: ToolError) -> ToolError:
    """The SDK's error of a tool as the caller may read it."""
    cause = error.__cause__
    if isinstance(cause, ByHeartError):
        return ToolError(_on_one_line(current_caller().error_text(cause)))
    if isinstance(error, UnexpectedToolError):
        return internal_error(tool, cause or error)
    if isinstance(cause, ValidationError):
        return ToolError(_on_one_line(f"{tool}: {'; '.join(_complaints(cause))}"))
    return error


def internal_error(tool: str, error: BaseException) -> ToolError:
    """What nobody intended; the log says more."""
    logger.error("tool %s failed", tool, exc_info=error)
    return ToolError(
        f"internal error in tool {tool} ({type(error).__name__}); see the server's log on stderr. "
        "This does not mean that nothing is known"
    )


def resource_error(error: ResourceError) -> ResourceError:
    """The SDK's error of a resource as the caller may read it."""
    cause = error.__cause__
    if isinstance(cause, UnknownMemory):
        return ResourceNotFoundError(_on_one_line(cause))
    if isinstance(cause, ByHeartError):
        return ResourceError(_on_one_line(current_caller().error_text(cause)))
    return type(error)(_on_one_line(error))


def _on_one_line(said: object) -> str:
    """One line of bounded length, whatever the caller's own words in it contain."""
    line = " ".join(str(said).splitlines())
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"


def _suggestion(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {near[0]}?" if near else ";"


def _complaints(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            yield f"{field} is required"
        else:
            given = json.dumps(problem["input"], ensure_ascii=False, default=str)
            yield f"{field}: {problem['msg']}, not {given[:60]}"
