"""`byheart remember`: store one memory."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

import click

from byheart_server.commands.options import as_moment, json_option, settings_options
from byheart_server.commands.printing import print_json
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import InvalidInput, MemoryStore, NewMemory, Receipt, now

# More bytes than the longest text has in UTF-8; endless input stops here.
_MOST_BYTES = 5_000_000


@click.command("remember")
@click.argument("text")
@click.option("--namespace", help="Where it belongs.  [default: default]")
@click.option("--session", help="The conversation it is part of.")
@click.option("--speaker", help="Who said it.")
@click.option("--at", callback=as_moment, metavar="DATE", help="When it happened.  [default: now]")
@click.option("--tag", "tags", multiple=True, help="May be repeated.")
@click.option("--source", help="Where it comes from.")
@click.option("--metadata", default="{}", metavar="JSON", help="A JSON object to keep with it.")
@click.option("--replaces", metavar="ID", help="The memory that this one makes out of date.")
@settings_options()
@json_option
def remember_command(
    settings: Settings,
    as_json: bool,
    text: str,
    at: datetime | None,
    tags: tuple[str, ...],
    metadata: str,
    **names: Any,
) -> None:
    """Store TEXT; `-` reads it from standard input."""
    memory = NewMemory(
        text=_standard_input() if text == "-" else text,
        at=at or now(),
        tags=tags,
        metadata=_object(metadata),
        **names,
    )

    async def remember(store: MemoryStore) -> Receipt:
        store.load_model()
        return await store.remember(memory)

    receipt = with_store(settings, remember)
    if as_json:
        print_json({"id": receipt.id, "status": receipt.status})
        return
    click.echo(f"{receipt.status} {receipt.id}")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read(_MOST_BYTES).decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInput("standard input: is not UTF-8 text; convert it first") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"--metadata: is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InvalidInput('--metadata: is not a JSON object; write {"key": "value"}')
    return value
