"""`byheart backup` and `byheart restore`: a store in one file, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.commands.progress import progress
from byheart_server.settings import Settings
from byheart_store import InvalidInput
from byheart_store.custody import back_up, restore

_file = click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.command("backup")
@_file
@settings_options(model=False)
@json_option
def backup_command(settings: Settings, as_json: bool, path: Path) -> None:
    """Write the whole store to one file, while others may go on writing.

    The file is a compressed tar archive of all memories, the log, the labels and the trained
    models. It is read back and compared before it takes its name.
    """
    _check_on_disk(settings, "byheart export --output FILE")
    with progress("writing") as report:
        done = asyncio.run(back_up(settings.home, path, progress=report))
    if as_json:
        print_json(done.as_dict())
        return
    memories = counted(done.memories, "memory", "memories")
    click.echo(f"wrote {memories} in {done.bytes / 1e6:,.1f} MB to {path}, read back and compared")


@click.command("restore")
@_file
@click.option("--replace", is_flag=True, help="Move a store that is there to set-aside.")
@settings_options(model=False)
@json_option
def restore_command(settings: Settings, as_json: bool, path: Path, replace: bool) -> None:
    """Bring the store back that a backup holds.

    Each file is compared with its digest before anything is put in place. Servers that have the
    home open are to be started again afterwards.
    """
    _check_on_disk(settings, "byheart import FILE")
    with progress("reading") as report:
        done = asyncio.run(restore(settings.home, path, replace=replace, progress=report))
    if as_json:
        print_json(done.as_dict())
        return
    memories = counted(done.memories, "memory", "memories")
    click.echo(f"restored {memories} of {done.made} to {settings.home}")
    if done.set_aside is not None:
        click.echo(f"the former store is kept in {done.set_aside}")


def _check_on_disk(settings: Settings, instead: str) -> None:
    if settings.uri is not None:
        raise InvalidInput(
            f"{settings.uri} is no store on disk, and its own service backs it up; "
            f"for the memories as text: {instead}"
        )
