"""`byheart forget`: remove memories for good."""

from __future__ import annotations

import sys

import click

from byheart_server.commands.opened import opened
from byheart_server.commands.options import filter_options, json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.settings import Settings
from byheart_store import Filter, Forgotten


@click.command("forget")
@click.argument("ids", nargs=-1)
@filter_options("namespaces", "session", "speaker", "tags", "after", "before")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Don't ask at the terminal.")
@settings_options(model=False)
@json_option
@click.pass_context
def forget_command(
    context: click.Context,
    settings: Settings,
    where: Filter,
    as_json: bool,
    ids: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove memories for good.

    Give their IDS, or conditions that they all meet.
    """
    condition = where if where.narrows else None

    with opened(settings) as (store, runner):
        forgotten = runner.run(store.forget(ids, where=condition, dry_run=True))
        if forgotten.ids and not dry_run:
            if sys.stdin.isatty() and not yes:
                _ask(forgotten)
            forgotten = runner.run(store.forget(ids, where=condition))
    if as_json:
        print_json(_as_dict(forgotten, dry_run))
    else:
        _print(forgotten, dry_run)
    context.exit(1 if forgotten.missing else 0)


def _ask(planned: Forgotten) -> None:
    memories = counted(planned.count, "memory", "memories")
    if not click.confirm(f"Forget {memories} for good?", err=True):
        raise click.ClickException("nothing was forgotten")


def _as_dict(forgotten: Forgotten, dry_run: bool) -> dict[str, object]:
    return {
        "ids": list(forgotten.ids),
        "missing": list(forgotten.missing),
        "count": forgotten.count,
        "dry_run": dry_run,
    }


def _print(forgotten: Forgotten, dry_run: bool) -> None:
    memories = counted(forgotten.count, "memory", "memories")
    if dry_run:
        click.echo(f"would forget {memories}")
        for memory_id in forgotten.ids:
            click.echo(f"  {memory_id}")
    else:
        click.echo(f"forgot {memories}")
    if forgotten.missing:
        missing = ", ".join(forgotten.missing)
        click.echo(f"byheart: no memory has the id {missing}; take ids from a recall", err=True)
