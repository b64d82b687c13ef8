"""The `byheart` command: one module a command, imported only when that command is called."""

from __future__ import annotations

from importlib import import_module

import click

from byheart_server import installed_version

__all__ = ["cli"]

_MODULES = {
    "serve": "serve",
    "demo": "demo",
    "remember": "remember",
    "recall": "recall",
    "forget": "forget",
    "import": "files",
    "export": "files",
    "label": "label",
    "reindex": "reindex",
    "eval": "evaluate",
    "fit": "fit",
    "retrain": "retrain",
    "models": "models",
    "stats": "stats",
    "doctor": "doctor",
    "backup": "backup",
    "restore": "backup",
}


class _Commands(click.Group):
    """A group that knows its commands by name, so that `serve` starts without the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"byheart_server.commands.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(installed_version(), message="%(prog)s %(version)s")
def cli() -> None:
    """The memory of an LLM agent: an MCP server, and commands for the same store.

    Exit codes: 0 done, 1 failed, 2 refused by the arguments.
    """
