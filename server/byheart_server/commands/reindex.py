"""`byheart reindex`: embed with another model, or fill what is missing."""

from __future__ import annotations

import click

from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.commands.progress import progress
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import MemoryStore, Reindexed


@click.command("reindex")
@click.option(
    "--model", help="Folder or FastEmbed name of the model to change to.  [default: fill and tidy]"
)
@settings_options(model=False)
@json_option
def reindex_command(settings: Settings, as_json: bool, model: str | None) -> None:
    """Embed what has no vector, and compact.

    With --model, embed everything with another model and change to it.
    """

    async def reindex(store: MemoryStore) -> Reindexed:
        with progress("embedding") as report:
            return await store.reindex(model, report)

    done = with_store(settings, reindex)
    if as_json:
        print_json({"model": done.model, "rows": done.rows, "seconds": round(done.seconds, 3)})
        return
    passages = counted(done.rows, "passage", "passages")
    click.echo(f"embedded {passages} with {done.model} in {done.seconds:.1f} s")
