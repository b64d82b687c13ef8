"""Lines that are no message: answered with an error, so that no client waits for ever."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

from byheart_server.protocol.sdk_internals import Incoming, InStream, OutStream

LONGEST_ID = 1_000
"""Digits or characters of an id that is repeated in an error."""


@asynccontextmanager
async def messages_only(
    incoming: InStream, outgoing: OutStream
) -> AsyncIterator[MemoryObjectReceiveStream[Incoming]]:
    """The client's messages; a line that is none is answered on the way."""
    passing, messages = anyio.create_memory_object_stream[Incoming]()

    async def relay() -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with passing:
                async for item in incoming:
                    if not isinstance(item, ValidationError):
                        await passing.send(item)
                    elif answer := _answer(item):
                        await outgoing.send(SessionMessage(answer))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay)
        yield messages
        tasks.cancel_scope.cancel()


def _answer(refused: ValidationError) -> JSONRPCError | None:
    """What JSON-RPC says to a line that is no message; nothing to an empty one."""
    problems = refused.errors(include_url=False, include_context=False)
    given = [problem["input"] for problem in problems]
    if problems[0]["type"] != "json_invalid":
        # Each kind of message has its complaints; one of them is about the message as a whole.
        wholes = (value for value in given if isinstance(value, dict) and "id" in value)
        reason = "no JSON-RPC 2.0 message; send jsonrpc, id, method and params as an object"
        return _error(next(wholes, None), INVALID_REQUEST, reason)
    if not given[0].strip():
        return None
    reason = f"{problems[0]['msg']}; send one JSON object a line, less deeply nested"
    return _error(_leniently(given[0]), PARSE_ERROR, reason)


def _error(message: Any, code: int, reason: str) -> JSONRPCError:
    return JSONRPCError(
        jsonrpc="2.0", id=_id_of(message), error=ErrorData(code=code, message=reason)
    )


def _leniently(line: str) -> Any:
    """The line by a parser that knows deeper nesting and longer numbers; None if it does not."""
    try:
        return json.loads(line, parse_int=lambda digits: int(digits[:LONGEST_ID]))
    except (ValueError, RecursionError):
        return None


def _id_of(message: Any) -> int | str | None:
    found = message.get("id") if isinstance(message, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | str):
        return None
    return found if len(str(found)) <= LONGEST_ID else None
