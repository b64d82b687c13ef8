"""`byheart forget`: remove memories for good."""

from __future__ import annotations

import sys

import click

from byheart_server.commands.options import filter_options, json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.opening import store_and_runner
from byheart_server.settings import Settings
from byheart_store import Filter, Forgotten, Home, Purged, StoreUnavailable
from byheart_store.home import SET_ASIDE


@click.command("forget")
@click.argument("ids", nargs=-1)
@filter_options("namespaces", "session", "speaker", "tags", "after", "before")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--purge",
    is_flag=True,
    help="Erase every trace too, of what was forgotten before as well: logged recalls, old files, "
    "indexes, caches.",
)
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
    purge: bool,
    yes: bool,
) -> None:
    """Remove memories for good.

    Give their IDS, or conditions that they all meet; with --purge alone, what was forgotten before
    loses its last traces.
    """
    if purge and dry_run:
        raise click.UsageError("--purge can't be tried; leave --dry-run or --purge out")
    condition = where if where.narrows else None
    forgotten = Forgotten(ids=(), missing=(), dry_run=dry_run)
    purged = None

    if purge and settings.uri is None and not Home(settings.home).tables.is_dir():
        raise StoreUnavailable(
            f"there is no store at {settings.home}; name the right folder: --home DIR"
        )
    with store_and_runner(settings) as (store, runner):
        if ids or condition or not purge:
            forgotten = runner.run(store.forget(ids, where=condition, dry_run=True))
            if forgotten.ids and not dry_run:
                if sys.stdin.isatty() and not yes:
                    _ask(forgotten)
                forgotten = runner.run(store.forget(ids, where=condition))
        if purge:
            purged = runner.run(store.purge())
    if as_json:
        print_json(_as_dict(forgotten, dry_run, purged))
    else:
        _print(forgotten, dry_run)
        _print_purged(purged)
    context.exit(1 if forgotten.missing or (purged and purged.kept) else 0)


_IN_USE = "it is in use; when that has ended, run: byheart forget --purge"
_ADVICE = {SET_ASIDE: "what lies there is yours to look at, and to delete"}


def _ask(planned: Forgotten) -> None:
    memories = counted(planned.count, "memory", "memories")
    if not click.confirm(f"Forget {memories} for good?", err=True):
        raise click.ClickException("nothing was forgotten")


def _as_dict(forgotten: Forgotten, dry_run: bool, purged: Purged | None) -> dict[str, object]:
    values: dict[str, object] = {
        "ids": list(forgotten.ids),
        "missing": list(forgotten.missing),
        "count": forgotten.count,
        "dry_run": dry_run,
    }
    if purged is not None:
        values["purged"] = {
            "recalls": purged.recalls,
            "labels": purged.labels,
            "kept": list(purged.kept),
        }
    return values


def _print_purged(purged: Purged | None) -> None:
    if purged is None:
        return
    recalls = counted(purged.recalls, "logged recall", "logged recalls")
    labels = counted(purged.labels, "label", "labels")
    where = "in this home" if not purged.kept else f"outside of {' and '.join(purged.kept)}"
    click.echo(f"purged: no trace is left {where}; {recalls} and {labels} went with it")
    click.echo("copies elsewhere, such as backups and exports, are yours to delete")
    for folder in purged.kept:
        click.echo(f"byheart: {folder} may hold traces; {_ADVICE.get(folder, _IN_USE)}", err=True)


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
