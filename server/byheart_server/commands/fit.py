"""`byheart fit`: fit fusion and calibration to labels, and keep them if they help."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from byheart_retrain.benchmarks import FORMATS, Benchmark, Format
from byheart_retrain.labels import store_queries
from byheart_retrain.progress import counting
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.training import Fit, fit, observe
from byheart_server.commands.benchmark import open_embedded, read_benchmark
from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import print_json
from byheart_server.commands.progress import progress
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import MemoryStore
from byheart_store.ranking import DEFAULT_TUNING, Tuning

_DONE, _REFUSED = 0, 2


@click.command("fit")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="[default: beir for a folder]"
)
@click.option("--namespace", "namespaces", multiple=True, help="Only this one; may be repeated.")
@click.option("--reset", is_flag=True, help="Go back to what the model brought, or the defaults.")
@settings_options()
@json_option
def fit_command(
    settings: Settings,
    as_json: bool,
    path: Path | None,
    file_format: Format | None,
    namespaces: tuple[str, ...],
    reset: bool,
) -> int:
    """Fit how the legs are fused, and what a score is worth, to the store's labels.

    With PATH, to a benchmark's: the parameters are kept in the store all the same, for its model.
    What a fit gains over what serves now is measured on queries that it did not see; one that gains
    nothing is refused (exit code 2), and all stays as it is.
    """
    if reset:
        back = with_store(settings, _reset)
        if as_json:
            print_json({"kept": False, "tuning": back.as_dict()})
        else:
            click.echo("what the model brought, or the defaults, are back in use")
        return _DONE
    if path is None:
        found = with_store(settings, lambda store: _fit_own(store, namespaces))
    else:
        benchmark = read_benchmark(path, file_format, namespaces)
        found = asyncio.run(_fit_benchmark(settings, benchmark))
    if found.helps:
        with_store(settings, lambda store: store.tune(found.tuning))
    if as_json:
        print_json(_figures(found))
    else:
        _print(found)
    return _DONE if found.helps else _REFUSED


async def _reset(store: MemoryStore) -> Tuning:
    await store.tune(None)
    return await store.tuning() or DEFAULT_TUNING


async def _fit_own(store: MemoryStore, namespaces: tuple[str, ...]) -> Fit:
    queries = await store_queries(store)
    chosen = [one for one in queries if not namespaces or one.namespace in namespaces]
    return await _fitted(store, chosen)


async def _fit_benchmark(settings: Settings, benchmark: Benchmark) -> Fit:
    async with await open_embedded(settings, benchmark.memories) as store:
        return await _fitted(store, benchmark.queries)


async def _fitted(store: MemoryStore, queries: list[LabelledQuery]) -> Fit:
    with progress("asking") as show:
        observations = await observe(store, queries, counting(show, len(queries)))
    # What serves is what has to be beaten, and a model's reranker stays as it is.
    return await asyncio.to_thread(fit, observations, await store.tuning() or DEFAULT_TUNING)


def _figures(found: Fit) -> dict[str, Any]:
    before, after = found.ece
    return {
        "kept": found.helps,
        "queries": found.queries,
        "gain": {"ndcg@10": found.gain.as_dict() | {"at_least": found.at_least}},
        "ece": {"before": before, "after": after},
        "tuning": found.tuning.as_dict(),
    }


def _print(found: Fit) -> None:
    gain, (before, after) = found.gain, found.ece
    click.echo(
        f"NDCG@10 on {found.queries:,} queries, each unseen by its fit: "
        f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], "
        f"with 95% confidence more than {found.at_least:+.4f}"
    )
    click.echo(f"expected calibration error of the hits' relevance: {before:.3f} -> {after:.3f}")
    fusion: Mapping[str, Any] = found.tuning.as_dict()["fusion"]
    click.echo(f"vectors weigh {fusion['vector']:g}, power {fusion['power']:g}")
    click.echo("kept" if found.helps else "refused: no gain beyond chance; nothing was changed")
