"""The options that several commands take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from byheart_server.settings import Settings
from byheart_store import Filter, parse_time

Command = Callable[..., Any]


def as_moment(_: click.Context, option: click.Parameter, value: str | None) -> datetime | None:
    """Click's callback for a date; raises InvalidInput when it is none."""
    return None if value is None else parse_time(value, option.opts[0])


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def settings_options(*, model: bool = True) -> Callable[[Command], Command]:
    """Give a command --home, --uri and, where it embeds, --model, as one argument `settings`.

    What is not given on the command line is taken from the environment.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_settings(
            *, home: Path | None, uri: str | None, embedding: str | None = None, **rest: Any
        ) -> Any:
            settings = Settings.from_environment()
            settings = replace(
                settings,
                home=home.expanduser().absolute() if home else settings.home,
                uri=uri or settings.uri,
                model=(embedding or settings.model) if model else None,
            )
            return command(settings=settings, **rest)

        return _decorated(with_settings, [*_STORE, _MODEL] if model else _STORE)

    return decorate


def filter_options(*names: str) -> Callable[[Command], Command]:
    """Give a command options for the conditions named, as one argument `where`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_filter(**given: Any) -> Any:
            conditions = {name: given.pop(name) for name in names}
            return command(where=Filter(**conditions), **given)

        return _decorated(with_filter, [_CONDITIONS[name] for name in names])

    return decorate


_STORE = [
    click.option(
        "--home",
        type=click.Path(path_type=Path),
        help="Folder of the store.  [default: $BYHEART_HOME, or the platform's data folder]",
    ),
    click.option(
        "--uri",
        help="The tables elsewhere: s3://, gs:// or az://BUCKET/PATH, db://NAME.  [$BYHEART_URI]",
    ),
]
_MODEL = click.option(
    "--model",
    "embedding",
    metavar="MODEL",
    help="Folder or FastEmbed name of a model.  [default: $BYHEART_MODEL, or the store's own]",
)
_CONDITIONS = {
    "namespaces": click.option(
        "--namespace", "namespaces", multiple=True, help="Only this namespace; may be repeated."
    ),
    "session": click.option("--session", help="Only this session."),
    "speaker": click.option("--speaker", help="Only what this speaker said."),
    "tags": click.option(
        "--tag", "tags", multiple=True, help="Only with this tag; repeated: with all of them."
    ),
    "after": click.option(
        "--after", callback=as_moment, metavar="DATE", help="Only from this date on."
    ),
    "before": click.option(
        "--before", callback=as_moment, metavar="DATE", help="Only before this date."
    ),
    "as_of": click.option(
        "--as-of", callback=as_moment, metavar="DATE", help="What was known at this moment."
    ),
}


def _decorated(command: Command, options: list[Any]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
