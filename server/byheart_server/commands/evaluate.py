"""`byheart eval`: how well recall does, on a benchmark or on the store's own memories."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from byheart_retrain.benchmarks import FORMATS, Benchmark, Format, read_run, write_run
from byheart_retrain.evaluation import Answer, ask, compared, report
from byheart_retrain.labels import own_queries
from byheart_retrain.progress import counting
from byheart_retrain.queries import LabelledQuery, asked_elsewhere
from byheart_server.commands.benchmark import open_embedded, read_benchmark
from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import counted, print_json
from byheart_server.commands.progress import progress
from byheart_server.opening import open_store
from byheart_server.settings import Settings
from byheart_store import MemoryStore, Mode

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_IN_A_FILE = 120
_SHOWN = ("ndcg@10", "recall@1", "recall@5", "recall@10", "mrr", "hit@5")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What was asked of which store, and how."""

    answers: list[Answer]
    model: str | None
    queries: str
    fitted: bool


@click.command("eval")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="[default: beir for a folder]"
)
@click.option("--queries", type=click.Path(path_type=Path), help="Ask these instead.")
@click.option("--namespace", "namespaces", multiple=True, help="Only this one; may be repeated.")
@click.option("--mode", type=click.Choice(["hybrid", "vector", "text"]), default="hybrid")
@click.option("--limit", default=10, show_default=True, help="Memories recalled per query.")
@click.option(
    "--elsewhere",
    is_flag=True,
    help="Ask each query in another namespace as well, where nothing answers it.",
)
@click.option("--run", type=click.Path(path_type=Path), help="Write a TREC run file.")
@click.option("--compare", type=click.Path(path_type=Path), help="A run to be compared with.")
@settings_options()
@json_option
def eval_command(
    settings: Settings,
    as_json: bool,
    path: Path | None,
    file_format: Format | None,
    queries: Path | None,
    namespaces: tuple[str, ...],
    mode: Mode,
    limit: int,
    elsewhere: bool,
    run: Path | None,
    compare: Path | None,
) -> None:
    """Ask questions whose answers are known and report how well they were found.

    PATH is a benchmark: a BEIR folder, or the published JSON of LongMemEval or LoCoMo. Without it
    the store's own labelled recalls are asked again; where there are too few, memories drawn from
    the store are looked for by their rarest words.

    A model is asked with what was fitted for it, a reranker included: what it would serve.
    """
    other = read_run(compare) if compare else None
    if path is None:
        asked = asyncio.run(_ask_own(settings, namespaces, mode, limit))
    else:
        benchmark = read_benchmark(path, file_format, namespaces, queries)
        if elsewhere:
            moved = asked_elsewhere(benchmark.queries)
            benchmark = replace(benchmark, queries=[*benchmark.queries, *moved])
        asked = asyncio.run(_ask_benchmark(settings, benchmark, mode, limit))
    figures = report(asked.answers)
    figures |= {"mode": mode, "model": asked.model, "asked": asked.queries}
    figures["fitted"] = asked.fitted
    if other is not None:
        differences = compared(asked.answers, other)
        figures["compare"] = {name: found.as_dict() for name, found in differences.items()}
    if run:
        rankings = {answer.query.id: answer.memories for answer in asked.answers}
        write_run(run, rankings, f"byheart-{mode}")
    if as_json:
        print_json(figures)
        return
    _print(figures)


async def _ask_benchmark(
    settings: Settings, benchmark: Benchmark, mode: Mode, limit: int
) -> _Asked:
    sessions = {str(new.id): new.session for new in benchmark.memories if new.session}
    async with await open_embedded(settings, benchmark.memories) as store:
        return await _ask(store, benchmark.queries, sessions, mode, limit, "benchmark")


async def _ask_own(
    settings: Settings, namespaces: tuple[str, ...], mode: Mode, limit: int
) -> _Asked:
    async with await _open_own(settings) as store:
        own = await own_queries(store, namespaces)
        return await _ask(store, own.queries, own.sessions, mode, limit, own.kind)


async def _open_own(settings: Settings) -> MemoryStore:
    """The store at home; with another model that it holds vectors of, a trial of that."""
    if settings.model is not None:
        async with await open_store(replace(settings, model=None)) as store:
            names = _names(settings.model)
            held = [one for one in await store.models() if one.model in names]
        if held and not any(one.active for one in held):
            return await MemoryStore.open(
                settings.home, uri=settings.uri, model=settings.model, trial=True
            )
    return await open_store(settings)


async def _ask(
    store: MemoryStore,
    queries: list[LabelledQuery],
    sessions: Mapping[str, str],
    mode: Mode,
    limit: int,
    kind: str,
) -> _Asked:
    with progress("asking") as show:
        answered = counting(show, len(queries))
        answers = await ask(
            store, queries, sessions=sessions, mode=mode, limit=limit, progress=answered
        )
    return _Asked(
        answers=answers,
        model=(await store.stats()).model,
        queries=kind,
        fitted=await store.tuning() is not None,
    )


def _names(model: str) -> set[str]:
    """What a store may know a model by: its name as given, or its whole path."""
    return {model, str(Path(model).expanduser().resolve())}


def _print(figures: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _WIDTH_IN_A_FILE)
    table = Table(title=_title(figures), title_justify="left", box=None, pad_edge=False)
    for name in ("", "queries", *_SHOWN):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for level in ("memory", "session"):
        table.add_row(f"by {level}", f"{figures['queries']:,}", *_cells(figures[level], wide=True))
    for name, found in figures["by_type"].items():
        if "memory" in found:
            table.add_row(f"  {name}", f"{found['queries']:,}", *_cells(found["memory"]))
    if "compare" in figures:
        table.add_row("difference", "", *_cells(figures["compare"], wide=True))
    console.print(table)
    latency = figures["latency_ms"]
    console.print(f"a recall takes {latency['p50']:.1f} ms (p50), {latency['p99']:.1f} ms (p99)")
    if "false_positives" in figures:
        wrong = figures["false_positives"]
        console.print(
            f"of {counted(wrong['queries'], 'query', 'queries')} that nothing answers, "
            f"{wrong['rate']['mean']:.0%} were given an answer"
        )
    if "relevance" in figures:
        console.print(_relevance_table(figures["relevance"]))


def _relevance_table(told: Mapping[str, Any]) -> Table:
    from rich.table import Table

    title = "telling what can be answered"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "AUROC", "false positives at 95% recall", "calibration error"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    rows = {"answerable": told, "best cosine": told["by_cosine"], "best BM25": told["by_bm25"]}
    for name, found in rows.items():
        figures = (found["auroc"], found["fpr@95"], found["query_ece"])
        table.add_row(name, *(f"{figure:.3f}" for figure in figures))
    return table


def _title(figures: Mapping[str, Any]) -> str:
    fitted = ", fitted" if figures["fitted"] else ""
    return f"{figures['asked']} queries, {figures['mode']} recall, {figures['model']}{fitted}"


def _cells(means: Mapping[str, Mapping[str, float | None]], *, wide: bool = False) -> list[str]:
    return [_cell(means[name], wide=wide) for name in _SHOWN]


def _cell(found: Mapping[str, float | None], *, wide: bool) -> str:
    mean, low, high = found["mean"], found["low"], found["high"]
    if mean is None or low is None or high is None:
        return "-"
    return f"{mean:.3f} ±{(high - low) / 2:.3f}" if wide else f"{mean:.3f}"
