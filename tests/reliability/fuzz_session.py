"""A server process with many calls in flight, held to the model and to the protocol."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .fuzz_calls import (
    Broken,
    Call,
    Feedback,
    Forget,
    Harmless,
    NoMessage,
    Read,
    Recall,
    Remember,
    Silent,
)
from .fuzz_model import Divergence, Model, as_sent

CLIENT = {"name": "fuzz", "version": "1"}
IN_FLIGHT = 24
PATIENCE = 60.0
MOST_MEMORIES = 50
LONGEST_REFUSAL = 1_000

Answer = Mapping[str, Any]


class ProtocolViolation(AssertionError):
    """A line on stdout that is no message, or an answer too many or too few."""


class Crash(AssertionError):
    """The server died, or something broke inside it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request under way: what to do with its answer, and what it does to the store."""

    call: Call
    settle: Callable[[Answer], None]
    effect: str


class Session:
    """Sends calls and checks answers as they come.

    Calls that are refused run beside all others. A call that reads waits for those that write and
    the other way round, so that the model knows in which order they took effect.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.model = Model()
        self.counts: Counter[str] = Counter()
        self._process = process
        self._waiting: dict[Any, Waiting] = {}
        self._cancelled: set[Any] = set()
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._errors_due = 0
        self._numbers = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    # sending

    def initialize(self) -> None:
        """Shake hands, and wait until the model has loaded."""
        params = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": CLIENT,
        }
        self._request("initialize", params, Harmless("initialize", {}), _is_result)
        self.drain()
        self._write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        self.play(Remember("the first", {}))
        self.drain()

    def play(self, call: Call) -> None:
        """Send a call, and take in what has been answered meanwhile."""
        self.counts[type(call).__name__] += 1
        match call:
            case Silent():
                self._write(call.line.encode())
            case NoMessage():
                self._errors_due += 1
                self._write(call.line)
            case Broken():
                self._request(call.method, call.params, call, _is_refusal)
            case Harmless():
                self._request(call.method, call.params, call, _is_result)
            case Remember():
                self._remember(call)
            case Recall():
                self._recall(call)
            case Feedback():
                self._feedback(call)
            case Forget():
                self._forget(call)
            case Read():
                self._read(call)
        self._take_in()

    def _remember(self, call: Remember) -> None:
        if len(self.model.memories) > MOST_MEMORIES:
            self.play(Forget(list(range(0, 90, 3)), [], {}, dry_run=False))
        self._wait_for("read", "write")
        arguments, word = self.model.arguments_of(call)
        new, key = self.model.kept(arguments, word), arguments.get("key")
        if call.cancelled:
            self._cancel(self._call_tool("remember", arguments, call, lambda _: None))
        self._call_tool(
            "remember",
            arguments,
            call,
            lambda answer: self.model.remembered(new, key, answer, retried=call.cancelled),
        )

    def _recall(self, call: Recall) -> None:
        self._wait_for("write")
        name = self.model.one(call.pick) if call.pick is not None else None
        query = self.model.memories[name].word if name else call.query
        arguments: dict[str, Any] = {"query": query, "limit": call.limit}
        arguments = {**arguments, **call.where, **call.more}
        number = self._call_tool(
            "recall",
            arguments,
            call,
            lambda answer: self.model.recalled(arguments, _given(answer)),
            effect="read",
        )
        if call.cancelled:
            self._cancel(number)

    def _cancel(self, number: Any) -> None:
        """Nobody waits for the answer to a cancelled request: it may come or not."""
        self._write(_message("notifications/cancelled", {"requestId": number}))
        self._cancelled.add(number)
        self._waiting.pop(number)

    def _feedback(self, call: Feedback) -> None:
        self._wait_for("read", "write")
        arguments, asked = self.model.judged(call)
        self._call_tool(
            "feedback",
            arguments,
            call,
            lambda answer: self.model.labelled(arguments, asked, answer),
        )

    def _forget(self, call: Forget) -> None:
        self._wait_for("read", "write")
        arguments = self.model.to_forget(call)
        self._call_tool(
            "forget", arguments, call, lambda answer: self.model.erased(arguments, answer)
        )

    def _read(self, call: Read) -> None:
        self._wait_for("write")
        name = self.model.one(call.pick) if call.pick is not None else None
        gone = self.model.forgotten
        unknown = gone[-1] if gone and not call.unknown.strip() else f"no {call.unknown}"
        uri = f"memory://{quote(as_sent(name or unknown), safe='')}"

        def settle(answer: Answer) -> None:
            if name is None:
                _is_refusal(answer)
            else:
                (content,) = _is_result(answer)["contents"]
                self.model.check_memory(name, json.loads(content["text"]))

        self._request("resources/read", {"uri": uri}, call, settle, effect="read")

    def _call_tool(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        call: Call,
        settle: Callable[[Answer | None], None],
        effect: str = "write",
    ) -> Any:
        """Call a tool; `settle` gets what it returned, or None where it refused."""
        params = {"name": tool, "arguments": arguments}
        return self._request(
            "tools/call", params, call, lambda answer: settle(_returned(answer)), effect
        )

    def _request(
        self,
        method: str,
        params: Any,
        call: Call,
        settle: Callable[[Answer], None],
        effect: str = "none",
    ) -> Any:
        while len(self._waiting) >= IN_FLIGHT:
            self._take_one()
        number = self._next_id()
        self._waiting[number] = Waiting(call, settle, effect)
        self._write(_message(method, params, number))
        return number

    def _next_id(self) -> int | str:
        """An id that is allowed, if not usual."""
        self._numbers += 1
        number = self._numbers
        return (number, -number, str(number), 10**25 + number, f"\x00'{number}\u202e")[number % 5]

    def _write(self, line: bytes) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Crash(f"the server is gone; the last line was {line!r:.500}") from None

    # answers

    def drain(self) -> None:
        """Wait until everything is answered, once."""
        self._wait_for("none", "read", "write")
        while self._errors_due:
            self._take_one()

    def end(self) -> None:
        """Close the input; the server leaves with 0 and no word more."""
        self.drain()
        assert self._process.stdin
        self._process.stdin.close()
        if code := self._process.wait(PATIENCE):
            raise Crash(f"the server ended with {code}")
        while line := self._lines.get(timeout=PATIENCE):
            self._take(line)

    def _wait_for(self, *effects: str) -> None:
        while any(waiting.effect in effects for waiting in self._waiting.values()):
            self._take_one()

    def _take_in(self) -> None:
        while not self._lines.empty():
            self._take_one()

    def _take_one(self) -> None:
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            calls = [waiting.call for waiting in self._waiting.values()]
            raise ProtocolViolation(f"never answered: {calls!r:.2000}") from None
        if not line:
            raise Crash(f"the server ended with {self._process.wait()}")
        self._take(line)

    def _take(self, line: bytes) -> None:
        message = _parsed(line)
        number = message.get("id")
        if number is None:
            self._errors_due -= 1
            _is_refusal(message)
            if self._errors_due < 0:
                raise ProtocolViolation(f"an answer to nothing: {line!r:.500}")
        elif number in self._cancelled:
            self._cancelled.remove(number)
        elif number in self._waiting:
            self._settle(self._waiting.pop(number), message)
        else:
            raise ProtocolViolation(f"answered twice, or never asked: {line!r:.500}")

    def _settle(self, waiting: Waiting, answer: Answer) -> None:
        try:
            waiting.settle(answer)
        except AssertionError as error:
            error.add_note(f"the call: {waiting.call!r:.2000}\nits answer: {answer!r:.2000}")
            raise


def _message(method: str, params: Any, number: Any = None) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if number is None else {**message, "id": number}).encode()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        raise ProtocolViolation(f"no JSON on stdout: {line!r:.500}") from None
    fields = set(message) if isinstance(message, dict) else set()
    if message.get("jsonrpc") != "2.0" or not fields & {"result", "error", "method"}:
        raise ProtocolViolation(f"no JSON-RPC 2.0 on stdout: {line!r:.500}")
    found: dict[str, Any] = message
    return found


def _is_result(answer: Answer) -> dict[str, Any]:
    if "result" not in answer or answer["result"].get("isError"):
        raise Divergence(f"refused: {answer!r:.1000}")
    result: dict[str, Any] = answer["result"]
    return result


def _is_refusal(answer: Answer) -> None:
    result = answer.get("result", {})
    if "error" not in answer and not result.get("isError"):
        raise Divergence(f"accepted: {answer!r:.1000}")
    said = answer["error"]["message"] if "error" in answer else result["content"][0]["text"]
    if "nternal error" in said or "unexpected" in said.lower():
        raise Crash(f"something broke: {said:.1000}")
    if len(said.splitlines()) != 1 or len(said) > LONGEST_REFUSAL:
        raise Divergence(f"no one-line refusal: {said!r:.2000}")


def _returned(answer: Answer) -> dict[str, Any] | None:
    """What a tool returned, the same as text and as structure; None where it refused."""
    if "error" in answer or answer["result"].get("isError"):
        _is_refusal(answer)
        return None
    result: dict[str, Any] = answer["result"]["structuredContent"]
    if json.loads(answer["result"]["content"][0]["text"]) != result:
        raise Divergence(f"text and structure differ: {answer!r:.1000}")
    return result


def _given(answer: Answer | None) -> Answer:
    if answer is None:
        raise Divergence("a recall was refused")
    return answer
