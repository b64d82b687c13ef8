"""How results look: JSON for programs, lines that fit the terminal for people."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

_WIDEST = 100


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(rows: Mapping[str, str]) -> None:
    """Print names and values, the values aligned."""
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{name.ljust(width)}  {value}")


def counted(number: int, one: str, many: str) -> str:
    """`1 memory`, `5,882 memories`."""
    return f"{number:,} {one if number == 1 else many}"


def day(moment: datetime) -> str:
    """A date, with the time of day unless it is midnight."""
    return f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def indented(text: str, indent: int) -> str:
    """The text under an indent, wrapped for a terminal, as it stands for a program."""
    lines = text.splitlines()
    if sys.stdout.isatty():
        width = min(_WIDEST, shutil.get_terminal_size().columns) - indent
        lines = [part for line in lines for part in textwrap.wrap(line, max(width, 20)) or [""]]
    return "\n".join(" " * indent + line for line in lines)
