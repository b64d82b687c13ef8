"""`byheart import` and `byheart export`: memories from files and into files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from byheart_server.commands.options import filter_options, json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.commands.progress import progress
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import Filter, MemoryStore, NewMemory
from byheart_store.interchange import (
    STANDARD_INPUT,
    Format,
    Imported,
    read,
    replacing,
    store_all,
    write_jsonl,
)

FileFormat = Literal["beir", "jsonl", "longmemeval", "locomo"]


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["beir", "jsonl", "longmemeval", "locomo"]),
    help="[default: beir for a folder, else jsonl]",
)
@click.option("--namespace", help="Put all memories there, whatever the file says.")
@settings_options()
@json_option
def import_command(
    settings: Settings,
    as_json: bool,
    path: Path,
    file_format: FileFormat | None,
    namespace: str | None,
) -> None:
    """Store the memories of a file.

    PATH is a BEIR folder, a JSONL file, or the published JSON of LongMemEval or LoCoMo; `-` reads
    JSONL from standard input. A file is checked to its end before anything is stored. Importing
    it again is harmless: what is there already counts as a duplicate.
    """
    memories, total = _memories(path, file_format, namespace)

    async def load(store: MemoryStore) -> Imported:
        store.load_model()
        with progress("importing") as report:
            return await store_all(store, memories, lambda done: report(done, total))

    imported = with_store(settings, load)
    if as_json:
        print_json(imported.as_dict())
        return
    _print(imported)


def _memories(
    path: Path, file_format: FileFormat | None, namespace: str | None
) -> tuple[Iterable[NewMemory], int | None]:
    """The memories of a checked file and how many they are; a pipe is read as it comes."""
    chosen: Format
    match file_format:
        case "longmemeval" | "locomo":
            return _conversations(path, file_format, namespace)
        case None:
            chosen = "beir" if path.is_dir() else "jsonl"
        case _:
            chosen = file_format
    total = None
    if path != STANDARD_INPUT:
        total = sum(1 for _ in read(path, chosen, namespace))
    return read(path, chosen, namespace), total


def _conversations(
    path: Path, file_format: Literal["longmemeval", "locomo"], namespace: str | None
) -> tuple[list[NewMemory], int]:
    from byheart_retrain.benchmarks import load

    memories = load(path, file_format).memories
    if namespace is not None:
        memories = [replace(memory, namespace=namespace) for memory in memories]
    return memories, len(memories)


def _print(imported: Imported) -> None:
    click.echo(
        f"stored {counted(imported.stored + imported.replaced, 'memory', 'memories')}, "
        f"{counted(imported.duplicates, 'duplicate', 'duplicates')} already there, "
        f"in {imported.seconds:.1f} s ({imported.per_second:,.0f}/s)"
    )
    width = max(map(len, imported.namespaces), default=0)
    for name, count in sorted(imported.namespaces.items()):
        click.echo(f"  {name.ljust(width)}  {count:>7,}")


@click.command("export")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("-"),
    help="A file, compressed when its name ends in .gz.  [default: - (standard output)]",
)
@click.option("--format", "_format", type=click.Choice(["jsonl"]), default="jsonl")
@filter_options("namespaces", "session", "speaker", "tags", "after", "before")
@settings_options(model=False)
@json_option
def export_command(
    settings: Settings, where: Filter, as_json: bool, output: Path, _format: str
) -> None:
    """Write all memories to a file.

    One JSON object a line, replaced memories included; `byheart import` takes them back without
    loss.
    """
    if as_json and output == Path("-"):
        raise click.UsageError("--json needs standard output for itself; give --output FILE")

    everything = replace(where, include_replaced=True)

    async def export(store: MemoryStore) -> int:
        with _output(output) as write:
            return await write_jsonl(store.memories(everything), write)

    count = with_store(settings, export)
    if as_json:
        print_json({"memories": count, "output": str(output)})
    elif output != Path("-"):
        click.echo(f"wrote {counted(count, 'memory', 'memories')} to {output}")


@contextmanager
def _output(path: Path) -> Iterator[Callable[[bytes], object]]:
    if path != Path("-"):
        with replacing(path) as write:
            yield write
        return
    yield sys.stdout.buffer.write
    sys.stdout.buffer.flush()
