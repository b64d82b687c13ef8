"""How the demonstration looks: at most 100 columns, coloured on a terminal only."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from byheart_server.demo.conversation import Question

_WIDEST = 100
_INDENT = "    "


class Screen:
    """Prints the steps of the demonstration on a console."""

    def __init__(self, console: Console) -> None:
        """Lines are cut or wrapped at the console's width, or at 100 columns."""
        self._console = console
        self._width = min(console.width, _WIDEST)

    def heading(self, title: str, about: str) -> None:
        """The title of a step and what it is about."""
        self._print()
        self._print(Text.assemble((title, "bold cyan"), ("  " + about, "dim")))
        self._print()

    def line(self, text: str) -> None:
        """A sentence."""
        self._print(Text(text))

    def answer(
        self,
        question: Question,
        answer: Mapping[str, Any],
        right: Collection[str],
        milliseconds: float,
        shown: int = 2,
    ) -> None:
        """A question and the best of its hits; those whose ids are in `right` get a tick."""
        about = "  ".join((question.kind, *_narrowed(question), f"{milliseconds:.0f} ms"))
        self._print(Text.assemble((question.text, "bold"), ("  " + about, "dim")))
        if answer["no_match"]:
            self._print(Text(f"{_INDENT}no match: nothing known about that", "yellow"))
        if answer["degraded"]:
            self._print(Text(f"{_INDENT}degraded: {answer.get('notice', '')}", "yellow"))
        colour = "dim" if answer["no_match"] else "green"
        for place, hit in enumerate(answer["hits"][:shown]):
            mark = "\u2713" if hit["id"] in right else " "
            self._hit(hit, mark, colour, lines=1 if place else 2)
        self._print()

    def _hit(self, hit: Mapping[str, Any], mark: str, colour: str, lines: int) -> None:
        about = f"  {hit['at'][:10]}  {hit['speaker']:<9}  "
        start = Text.assemble((f"  {mark} {hit['relevance']:.2f}", colour), (about, "dim"))
        indent = len(start)
        for line in _trimmed(hit["text"], self._width - indent, lines):
            self._print(start + Text(line))
            start = Text(" " * indent)

    def times(self, rows: Mapping[str, str]) -> None:
        """Names and figures, aligned."""
        width = max(map(len, rows))
        for name, value in rows.items():
            self._print(Text(f"{_INDENT}{name.ljust(width)}  {value}"))

    def connections(self, command: Sequence[str]) -> None:
        """How to connect the clients that people use."""
        self.heading("Connect your own", "the store then lies in your platform's data folder")
        serve = [*command, "serve"]
        self._print(Text("Claude Code", "bold"))
        self._copied(f"claude mcp add byheart -- {shlex.join(serve)}")
        self._print(Text("Claude Desktop (claude_desktop_config.json)", "bold"))
        self._print(Text("Cursor (~/.cursor/mcp.json)", "bold"))
        entry = {"mcpServers": {"byheart": {"command": serve[0], "args": serve[1:]}}}
        self._copied(json.dumps(entry))

    def _copied(self, text: str) -> None:
        # Wrapped by the terminal itself, so that it can be copied as one line.
        self._console.print(Text(f"{_INDENT}{text}", "green"), soft_wrap=True)

    def _print(self, what: Text | str = "") -> None:
        self._console.print(what, width=self._width)


def _narrowed(question: Question) -> list[str]:
    return [f"{name}={value}" for name, value in question.arguments.items()]


def _trimmed(text: str, width: int, lines: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), max_lines=lines, placeholder=" \u2026")
