"""`byheart retrain`: train a candidate from labels, and let the gate decide on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import print_json
from byheart_server.commands.progress import progress
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import ByHeartError, Home, InvalidInput, MemoryStore

if TYPE_CHECKING:
    from byheart_retrain.queries import LabelledQuery
    from byheart_retrain.retraining import Outcome, RetrainSettings

_DONE, _REFUSED = 0, 2
_NO_LABELS = (
    "labels: nothing was found useful yet. Labels come about as agents give feedback on what they "
    "recalled, as you judge recalls yourself (byheart label), or from a file (--labels FILE)"
)
_NEEDED = ("torch", "sentence_transformers", "datasets", "onnxscript", "matplotlib")


class ExtraMissing(ByHeartError):
    """What training needs is not installed."""


@click.command("retrain")
@click.option(
    "--labels",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Labels as JSONL, a BEIR folder, or qrels; may be repeated.  [default: the recall log]",
)
@click.option(
    "--queries", type=click.Path(path_type=Path), help="The queries.jsonl that qrels speak of."
)
@click.option("--namespace", "namespaces", multiple=True, help="Only this one; may be repeated.")
@click.option("--base", metavar="MODEL", help="What to start from.  [default: the store's own]")
@click.option("--output", type=click.Path(path_type=Path), help="Where the model is to lie.")
@click.option(
    "--min-gain", type=click.FloatRange(0, 1), default=0.0, help="Least gain in NDCG@10 to pass."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="How far below zero the gain's 95% interval may reach.",
)
@click.option(
    "--fewest",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Test questions that a verdict takes.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the split, the negatives, all.")
@click.option("--reranker/--no-reranker", default=True, help="Train a reranker as well.")
@click.option("--promote", is_flag=True, help="Switch the store to the model if it passes.")
@settings_options(model=False)
@json_option
def retrain_command(
    settings: Settings,
    as_json: bool,
    labels: tuple[Path, ...],
    queries: Path | None,
    namespaces: tuple[str, ...],
    base: str | None,
    output: Path | None,
    min_gain: float,
    tolerance: float,
    fewest: int,
    seed: int,
    reranker: bool,
    promote: bool,
) -> int:
    """Train an embedding of this store's memories from what was found useful.

    A tenth of the labelled questions or more is set aside; only a model that answers them better
    than the one that serves now, beyond chance, passes. One that does not is kept aside (exit
    code 2), and the store goes on as it is.
    """
    if queries is not None and not labels:
        raise InvalidInput("queries: they belong to qrels; give those as well: --labels QRELS")
    _check_installed()
    from byheart_retrain.retraining import RetrainSettings

    folder = (output or Home(settings.home).models / _new_name()).expanduser().resolve()
    wanted = RetrainSettings(
        output=folder,
        base=_absolute(base),
        seed=seed,
        min_gain=min_gain,
        tolerance=tolerance,
        fewest=fewest,
        rerank=reranker,
        command=_command(min_gain, tolerance, fewest, seed, reranker=reranker),
    )

    async def work(store: MemoryStore) -> Outcome:
        chosen = await _labelled(store, labels, queries, namespaces)
        return await _retrained(store, settings, chosen, wanted, promote=promote)

    outcome = with_store(settings, work)
    if as_json:
        print_json(_figures(outcome, promoted=outcome.passed and promote))
    else:
        _print(outcome, promoted=outcome.passed and promote)
    return _DONE if outcome.passed else _REFUSED


async def _labelled(
    store: MemoryStore, labels: Sequence[Path], queries: Path | None, namespaces: Sequence[str]
) -> list[LabelledQuery]:
    """The labelled questions to learn from: of the files, or of the store's own recall log."""
    from byheart_retrain.labels import merged, read_labels, store_queries

    if labels:
        found = merged(query for path in labels for query in read_labels(path, queries))
    else:
        found = await store_queries(store)
    if not found:
        raise InvalidInput(_NO_LABELS)
    return await _within(store, found, namespaces) if namespaces else found


async def _retrained(
    store: MemoryStore,
    settings: Settings,
    queries: list[LabelledQuery],
    wanted: RetrainSettings,
    *,
    promote: bool,
) -> Outcome:
    """Train on the questions; a model that passes is promoted where that is wanted."""
    from byheart_retrain.retraining import Retraining

    async def trial(model: str) -> MemoryStore:
        return await MemoryStore.open(settings.home, uri=settings.uri, model=model, trial=True)

    retraining = Retraining(store, Home(settings.home), trial, wanted, progress)
    outcome = await retraining.run(queries)
    if outcome.passed and promote:
        with progress("promoting") as show:
            await store.reindex(str(wanted.output), show)
    return outcome


async def _within(
    store: MemoryStore, queries: list[LabelledQuery], namespaces: Sequence[str]
) -> list[LabelledQuery]:
    """Those of the namespaces; a question of none is asked where its answers lie."""
    from byheart_retrain.labels import usable

    placed, _ = await usable(store, queries)
    found = [query for query in placed if query.namespace in namespaces]
    if not found:
        raise InvalidInput(
            f"namespace: nothing was found useful in {', '.join(namespaces)}; "
            "label recalls there, or leave --namespace out to learn from all labels"
        )
    return found


def _check_installed() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ExtraMissing(
            f"retrain needs {', '.join(missing)}; install them: pip install 'byheart[retrain]'"
        )


def _absolute(base: str | None) -> str | None:
    """A folder by its whole path, anything else as it is."""
    if base is None or not Path(base).expanduser().is_dir():
        return base
    return str(Path(base).expanduser().resolve())


def _command(min_gain: float, tolerance: float, fewest: int, seed: int, *, reranker: bool) -> str:
    """What a model card says to reproduce it with: no path and no name concerns its reader."""
    figures = f"--seed {seed} --min-gain {min_gain:g} --tolerance {tolerance:g} --fewest {fewest}"
    return f"byheart retrain {figures}{'' if reranker else ' --no-reranker'}"


def _new_name() -> str:
    return f"specialist-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _figures(outcome: Outcome, *, promoted: bool) -> dict[str, Any]:
    return {
        "passed": outcome.passed,
        "promoted": promoted,
        "reason": outcome.reason,
        "model": str(outcome.folder) if outcome.folder else None,
        "report": outcome.report,
    }


def _print(outcome: Outcome, *, promoted: bool) -> None:
    click.echo(outcome.reason)
    if outcome.folder is None:
        return
    click.echo(f"model card: {outcome.folder / 'README.md'}")
    if promoted:
        click.echo("it serves now; to go back: byheart models rollback")
    elif outcome.passed:
        click.echo(f"to let it serve: byheart models promote {outcome.folder}")
    else:
        click.echo("the model is kept there, and does not serve")
