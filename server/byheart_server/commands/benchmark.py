"""Benchmarks as the commands take them: read from a path, embedded once per model."""

from __future__ import annotations

from pathlib import Path

from byheart_retrain.benchmark_store import open_benchmark_store
from byheart_retrain.benchmarks import Benchmark, Format, guessed, load
from byheart_server.commands.opened import counting
from byheart_server.commands.progress import progress
from byheart_server.settings import Settings
from byheart_store import MemoryStore, NewMemory


def read_benchmark(
    path: Path,
    file_format: Format | None,
    namespaces: tuple[str, ...],
    queries: Path | None = None,
) -> Benchmark:
    """The benchmark at a path, or those of its namespaces that are named.

    Raises:
        InvalidInput: it can't be read, or its format has to be said.
    """
    benchmark = load(path, file_format or guessed(path), queries)
    return benchmark.within(namespaces) if namespaces else benchmark


async def open_embedded(settings: Settings, memories: list[NewMemory]) -> MemoryStore:
    """A store of the benchmark's memories, kept beside the store at home."""
    with progress("embedding") as show:
        stored = counting(show, len(memories))
        cache = settings.home / "cache" / "eval"
        return await open_benchmark_store(memories, settings.model, cache, stored)
