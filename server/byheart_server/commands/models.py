"""`byheart models`: which models there are, and which of them serves."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from byheart_retrain.publishing import Candidate, candidate, candidates
from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.commands.progress import progress
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import Home, InvalidInput, MemoryStore, StoreModel

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_IN_A_FILE = 120
_WORDS = ("", "model", "state")
_NUMBERS = ("NDCG@10 gain", "R@1 gain", "questions", "judged", "embedded")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A model as the store holds it, as its report tells of it, or both."""

    model: str
    stored: StoreModel | None
    evaluated: Candidate | None

    @property
    def state(self) -> str:
        if self.stored is not None and self.stored.active:
            return "serves"
        if self.stored is not None:
            return "previous" if self.stored.previous else "prepared"
        return "passed" if self.evaluated is not None and self.evaluated.passed else "refused"

    def as_dict(self) -> dict[str, Any]:
        held = self.stored
        return {
            "model": self.model,
            "state": self.state,
            "fingerprint": held.fingerprint if held else None,
            "embedded": held.embedded if held else 0,
            "passages": held.passages if held else None,
            "verdict": self.evaluated.as_dict() if self.evaluated else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Switch:
    """What serves after a command, what a rollback would return to, what had to be embedded."""

    serves: str | None
    previous: str | None
    changed: bool = True
    rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.serves,
            "previous": self.previous,
            "changed": self.changed,
            "rows": self.rows,
        }


@click.group("models")
def models_command() -> None:
    """Show the models there are, and switch between them."""


@models_command.command("list")
@settings_options(model=False)
@json_option
def list_command(settings: Settings, as_json: bool) -> None:
    """Show the models of the store, and those that were trained.

    Serves: recall uses it. Previous: a rollback returns to it. Prepared: its vectors are in the
    store, so that a promotion is a switch. Passed, refused: what the gate said of a folder that
    the store holds no vectors of.
    """
    found = with_store(settings, lambda store: _models(store, Home(settings.home).models))
    if as_json:
        print_json({"models": [one.as_dict() for one in found]})
    elif found:
        _print(found)
    else:
        click.echo("no model yet: the first memory takes the one inside the package")


@models_command.command("promote")
@click.argument("model")
@click.option("--force", is_flag=True, help="Whatever the gate said of it.")
@settings_options(model=False)
@json_option
def promote_command(settings: Settings, as_json: bool, model: str, force: bool) -> None:
    """Let a trained model serve.

    What it has not embedded yet is embedded first. MODEL is its folder, or the name of one under
    the home's `models`. What the gate refused, or never judged, is refused here too (exit code 2).
    """
    folder = _folder(model, Home(settings.home).models)
    done = with_store(settings, lambda store: _promoted(store, folder, force=force))
    if as_json:
        print_json(done.as_dict())
    elif done.changed:
        embedded = counted(done.rows, "passage", "passages")
        click.echo(f"{done.serves} serves now; {embedded} had to be embedded")
        _print_way_back(done)
    else:
        click.echo(f"{done.serves} serves already; nothing was changed")


@models_command.command("rollback")
@settings_options(model=False)
@json_option
def rollback_command(settings: Settings, as_json: bool) -> None:
    """Let the model serve that served before.

    A second rollback undoes the first.
    """
    done = with_store(settings, _rolled_back)
    if as_json:
        print_json(done.as_dict())
        return
    click.echo(f"{done.serves} serves now")
    _print_way_back(done)


async def _models(store: MemoryStore, folder: Path) -> list[_Model]:
    """Those of the store, then those that lie in the folder alone."""
    held = {one.model: one for one in await store.models()}
    known = [
        _Model(model=name, stored=one, evaluated=_evaluated(name)) for name, one in held.items()
    ]
    others = [
        _Model(model=str(one.folder.resolve()), stored=None, evaluated=one)
        for one in candidates(folder)
    ]
    return [*known, *(one for one in others if one.model not in held)]


def _evaluated(model: str) -> Candidate | None:
    return candidate(Path(model)) if Path(model).is_absolute() else None


def _folder(model: str, models: Path) -> Path:
    for folder in (Path(model).expanduser(), models / model):
        if folder.is_dir():
            return folder.resolve()
    raise InvalidInput(
        f"model: {model} is no folder, nor the name of one in {models}; see what there is: "
        f"byheart models list, or take a published model: byheart reindex --model {model}"
    )


async def _promoted(store: MemoryStore, folder: Path, *, force: bool) -> _Switch:
    now = await _state(store)
    if now.serves == str(folder):
        return replace(now, changed=False)
    if not force:
        _check_passed(folder)
    with progress("embedding") as show:
        done = await store.reindex(str(folder), show)
    return replace(await _state(store), rows=done.rows)


async def _rolled_back(store: MemoryStore) -> _Switch:
    with progress("embedding") as show:
        await store.rollback(show)
    return await _state(store)


async def _state(store: MemoryStore) -> _Switch:
    models = await store.models()
    return _Switch(
        serves=next((one.model for one in models if one.active), None),
        previous=next((one.model for one in models if one.previous), None),
    )


def _check_passed(folder: Path) -> None:
    found = candidate(folder)
    if found is None:
        raise InvalidInput(
            f"{folder} holds no report.json, so no gate has judged it; measure it with "
            "byheart eval PATH --model DIR, and then promote it with --force"
        )
    if not found.passed:
        raise InvalidInput(
            f"{folder} was refused. {found.reason.rstrip('.')}; label more recalls and train "
            "anew, or promote it all the same with --force"
        )


def _print_way_back(done: _Switch) -> None:
    if done.previous is not None:
        click.echo(f"to go back to {done.previous}: byheart models rollback")


def _print(found: list[_Model]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH_IN_A_FILE, markup=False)
    console.print(_table(found))


def _table(found: list[_Model]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in _WORDS:
        # A long name is broken, never a figure.
        table.add_column(name, no_wrap=name != "model", overflow="fold")
    for name in _NUMBERS:
        table.add_column(name, no_wrap=True, justify="right")
    for one in found:
        serves = "*" if one.state == "serves" else ""
        table.add_row(serves, _name(one.model), one.state, *_figures(one.evaluated), _embedded(one))
    return table


def _name(model: str) -> str:
    return Path(model).name if Path(model).is_absolute() else model


def _figures(evaluated: Candidate | None) -> tuple[str, str, str, str]:
    if evaluated is None:
        return "-", "-", "-", "-"
    gain = evaluated.gain
    return (
        f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
        f"{evaluated.gain_at_1.mean:+.3f}",
        f"{evaluated.questions:,}",
        f"{evaluated.at:%Y-%m-%d}",
    )


def _embedded(one: _Model) -> str:
    if one.stored is None:
        return "-"
    done, total = one.stored.embedded, one.stored.passages
    return f"{done:,}" if done == total else f"{done:,} of {total:,}"
