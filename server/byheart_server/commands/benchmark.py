"""Benchmarks as the commands take them: read from a path, embedded once per model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from byheart_retrain.benchmarks import Benchmark, Format, guessed, load, open_benchmark_store
from byheart_retrain.progress import counting
from byheart_server.commands.progress import progress
from byheart_server.opening import open_store
from byheart_server.settings import Settings
from byheart_store import Home, MemoryStore, NewMemory, StoreModel
from byheart_store.models import Encoder
from byheart_store.ranking import Tuning


@dataclass(frozen=True, slots=True)
class _Served:
    model: StoreModel
    tuning: Tuning | None


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
    """A store of the benchmark's memories, kept beside the store at home and ranking as that does.

    A model that is named and brings a tuning of its own ranks by that one.
    """
    home = await _served_at_home(settings)

    def tuning(encoder: Encoder) -> Tuning | None:
        alone = settings.model is not None and encoder.tuning is not None
        if alone or home is None or home.model.fingerprint != encoder.fingerprint:
            return encoder.tuning
        return home.tuning

    model = settings.model or (home.model.model if home else None)
    with progress("embedding") as show:
        stored = counting(show, len(memories))
        cache = Home(settings.home).benchmarks
        return await open_benchmark_store(memories, model, cache, stored, tuning)


async def _served_at_home(settings: Settings) -> _Served | None:
    """The model and the tuning of the store at home; None while it has none."""
    if settings.uri is None and not Home(settings.home).tables.is_dir():
        return None
    async with await open_store(replace(settings, model=None)) as store:
        active = next((one for one in await store.models() if one.active), None)
        return _Served(active, await store.tuning()) if active else None
