"""Draw what two choices of recall cost and gain on a benchmark whose answers are known.

redundancy.png     what MMR takes from the first ten hits, and what it does to NDCG@10
calibration.png    whether relevance is an honest probability, and whether it knows of no answer

    pip install matplotlib
    python examples/curves/curves.py BENCHMARK --output DIR

The same numbers are printed. All of it is the recall that is served, with its default parameters.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from byheart_retrain.benchmarks import (
    FORMATS,
    Benchmark,
    guessed,
    load,
    open_benchmark_store,
)
from byheart_retrain.evaluation import Answer, ask
from byheart_retrain.evaluation.metrics import (
    auroc,
    calibration_curve,
    expected_calibration_error,
    false_positive_rate,
    intervals,
    ndcg,
)
from byheart_retrain.queries import LabelledQuery
from byheart_server.settings import default_home
from byheart_store import ByHeartError, Filter, Home, MemoryStore
from byheart_store.ranking import DEFAULT_TUNING, Evidence, fused
from byheart_store.ranking.diversity import Diversity
from byheart_store.ranking.order import Ranking, pooled, rank
from byheart_store.recall.snapshots import Snapshots
from byheart_store.tables.database import Database

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

DEPTH = 10
RESTATED, COPIED = 0.8, 0.9
"""The cosines above which a pair of hits counts as a restatement, and as a near-copy."""

DEFAULT = DEFAULT_TUNING.diversity
OFF = replace(DEFAULT, balance=1.0)
BALANCES = (0.95, 0.9, 0.8, 0.7, 0.5, 0.3)
ALIKE = (0.0, 0.5, 0.7, 0.8, 0.9)
CURVES = {a: [OFF, *(Diversity(balance=b, alike=a) for b in BALANCES)] for a in ALIKE}
"""A line each: a lower balance gives more for variety, and `alike` 0 is the MMR of the books."""

COLOURS = ("#8c8c8c", "#56b4e9", "#009e73", "#d55e00", "#cc79a7")
HERE, ELSEWHERE = "#0072b2", "#d55e00"


# --- asking ---------------------------------------------------------------------------------------


async def measure(
    benchmark: Benchmark, every: int, cache: Path
) -> tuple[list[Answer], dict[Diversity, Floats]]:
    """What the store answers here and elsewhere, and (n, 4) figures of the n queries by setting."""
    queries = benchmark.queries[::every]
    async with await open_benchmark_store(benchmark.memories, None, cache) as store:
        if await store.tuning() is not None:
            await store.tune(None)
        answers = await ask(store, [*queries, *asked_elsewhere(queries)], limit=DEPTH)
        return answers, await swept(store, [one for one in answers if one.query.gold])


def asked_elsewhere(queries: Sequence[LabelledQuery]) -> list[LabelledQuery]:
    """The same questions, each in a namespace where nothing answers it."""
    names = sorted({query.namespace for query in queries if query.namespace})
    draw = random.Random(0)
    return [
        replace(query, namespace=draw.choice(others), gold=frozenset(), gold_sessions=None)
        for query in queries
        if query.namespace and query.gold
        if (others := [name for name in names if name != query.namespace])
    ]


async def swept(store: MemoryStore, answers: Sequence[Answer]) -> dict[Diversity, Floats]:
    """Rank the same evidence with every setting -> (n, 4): NDCG@10 and `likeness`."""
    vectors = await vectors_of(store)
    settings = dict.fromkeys([DEFAULT, *(one for line in CURVES.values() for one in line)])
    figures: dict[Diversity, list[list[float]]] = {setting: [] for setting in settings}
    for answer in answers:
        query = answer.query
        where = Filter(namespaces=(query.namespace,) if query.namespace else ())
        evidence, ids = await store.evidence(query.text, where)
        scores = fused(evidence, DEFAULT_TUNING.fusion)
        for setting in settings:
            tuning = replace(DEFAULT_TUNING, diversity=setting)
            pool = pooled(evidence, scores, DEPTH, tuning.fusion)
            ranking = rank(evidence, scores, pool, vectors[evidence.rows[pool.rows]], DEPTH, tuning)
            found = tuple(ids[position] for position in ranking.positions)
            if setting == DEFAULT and found != answer.memories:
                raise RuntimeError(f"query {query.id}: what is measured is not what is served")
            figures[setting].append(
                [ndcg(found, query.gold, DEPTH), *likeness(evidence, ranking, vectors)]
            )
    return {setting: np.array(rows) for setting, rows in figures.items()}


async def vectors_of(store: MemoryStore) -> NDArray[np.float32]:
    """(r, d) unit vectors of all passages, in the order in which evidence numbers them."""
    database = await Database.open(Path(store.location).parent, None, 30.0)
    version, description = await database.described()
    snapshot = await Snapshots(database).at(version, description.active, whole=True)
    database.close()
    if snapshot.vectors is None:
        raise RuntimeError("a whole snapshot holds its vectors")
    return snapshot.vectors


def likeness(
    evidence: Evidence, ranking: Ranking, vectors: NDArray[np.float32]
) -> tuple[float, float, float]:
    """The hits, each by its best passage: mean cosine of two, restatements, near-copies."""
    passages = zip(ranking.positions, ranking.passages, strict=True)
    rows = [evidence.first[position] + passage for position, passage in passages]
    hits = vectors[evidence.rows[rows]]
    pairs = (hits @ hits.T)[np.triu_indices(len(hits), k=1)]
    mean = float(pairs.mean()) if len(pairs) else 0.0
    return mean, float((pairs > RESTATED).sum()), float((pairs > COPIED).sum())


# --- redundancy -----------------------------------------------------------------------------------


def print_redundancy(figures: Mapping[Diversity, Floats]) -> None:
    """One row per setting; the difference is a paired one to MMR switched off."""
    means = {setting: rows.mean(axis=0) for setting, rows in figures.items()}
    gains = np.column_stack([rows[:, 0] - figures[OFF][:, 0] for rows in figures.values()])
    changes = dict(zip(figures, intervals(gains), strict=True))
    print(f"redundancy in the first {DEPTH} of {len(gains)} queries\n")
    pairs = f"pairs > {RESTATED}  > {COPIED}"
    print(f"alike  balance  NDCG@10  difference (95% interval)  mean cosine  {pairs}")
    for setting in dict.fromkeys([OFF, *sorted(means, key=lambda one: (one.alike, -one.balance))]):
        score, cosine, restated, copied = means[setting]
        change = changes[setting]
        alike = "off" if setting == OFF else f"{setting.alike:.2f}"
        span = f"{change.mean:+.4f} ({change.low:+.4f} to {change.high:+.4f})"
        mark = "  default" if setting == DEFAULT else ""
        print(
            f"{alike:>5}  {setting.balance:7.2f}  {score:7.4f}  {span:>25}  "
            f"{cosine:11.3f}  {restated:11.3f}  {copied:5.3f}{mark}"
        )


def draw_redundancy(figures: Mapping[Diversity, Floats], figure: Figure) -> None:
    """NDCG@10 over the mean cosine, and, nearer to where MMR does no harm, over restatements."""
    means = {setting: rows.mean(axis=0) for setting, rows in figures.items()}
    whole, near = figure.subplots(1, 2)
    for axes, position in ((whole, 1), (near, 2)):
        for (alike, line), colour in zip(CURVES.items(), COLOURS, strict=True):
            points = np.array([means[setting] for setting in line])
            label = f"alike {alike:g}" + ("" if alike else " (plain MMR)")
            axes.plot(points[:, position], points[:, 0], "o-", color=colour, ms=4, label=label)
        mark(axes, means[OFF][position], means[OFF][0], "s", "balance 1: no MMR")
        name = f"default: balance {DEFAULT.balance:g}, alike {DEFAULT.alike:g}"
        mark(axes, means[DEFAULT][position], means[DEFAULT][0], "*", name)
        axes.grid(alpha=0.3)
        axes.set_ylabel(f"NDCG@{DEPTH}")
    whole.set_xlabel(f"mean cosine of two hits in the first {DEPTH}")
    whole.set_title(f"Balance from 1, right, to {min(BALANCES):g}, left", fontsize=11)
    whole.legend(loc="lower right", fontsize=8)
    near.set_xlabel(f"pairs of hits above a cosine of {RESTATED:g}, per query")
    near.set_title("The same within .01 of no MMR", fontsize=11)
    near.set_ylim(means[OFF][0] - 0.01, max(one[0] for one in means.values()) + 0.001)


def mark(axes: Axes, x: float, y: float, shape: str, label: str) -> None:
    """One point that stands out."""
    look = {"s": "white", "*": "gold"}[shape]
    size = {"s": 8, "*": 15}[shape]
    axes.plot(x, y, shape, ms=size, mfc=look, mec="black", ls="", zorder=3, label=label)


# --- calibration ----------------------------------------------------------------------------------


def hits_of(answers: Iterable[Answer]) -> tuple[Floats, Floats]:
    """(k,) relevances of all hits, and (k,) whether each is gold."""
    pairs = [
        (relevance, memory in answer.query.gold)
        for answer in answers
        for memory, relevance in zip(answer.memories, answer.relevances, strict=True)
    ]
    return np.array([said for said, _ in pairs]), np.array([float(right) for _, right in pairs])


def groups_of(answers: Sequence[Answer]) -> dict[str, tuple[Floats, Floats]]:
    """The hits of all questions, and of those alone that have an answer where they were asked."""
    answered = [answer for answer in answers if answer.query.gold]
    groups = {"questions with an answer": hits_of(answered)}
    if len(answered) < len(answers):
        groups["questions with and without an answer"] = hits_of(answers)
    return groups


def answerables_of(answers: Sequence[Answer]) -> tuple[Floats, Floats]:
    """P(answerable) of the questions that have an answer where they were asked, and of others."""
    here = np.array([answer.answerable for answer in answers if answer.query.gold])
    elsewhere = np.array([answer.answerable for answer in answers if not answer.query.gold])
    return here, elsewhere


def print_calibration(answers: Sequence[Answer]) -> None:
    """The reliability diagrams, and how P(answerable) spreads."""
    for name, (said, right) in groups_of(answers).items():
        error = expected_calibration_error(said, right)
        print(f"\nhits of {name}: expected calibration error {error:.4f}\n")
        print("relevance  share of gold  hits")
        for mean, share, count in calibration_curve(said, right):
            print(f"{mean:9.3f}  {share:13.3f}  {count:4}")
    here, elsewhere = answerables_of(answers)
    print("\nP(answerable)  an answer is there  none is there")
    for low, yes, no in zip(np.arange(10) / 10, *map(shares, (here, elsewhere)), strict=True):
        print(f"   {low:.1f} to {low + 0.1:.1f}  {yes:18.1%}  {no:13.1%}")
    missed = (here < DEFAULT_TUNING.calibration.threshold).mean()
    print(f"\nno match said of {missed:.1%} of {len(here)} questions with an answer", end="")
    if len(elsewhere):
        known = (elsewhere < DEFAULT_TUNING.calibration.threshold).mean()
        print(f", and of {known:.1%} of {len(elsewhere)} without one")
        print(f"AUROC {auroc(here, elsewhere):.3f}, ", end="")
        print(f"false positives at 95% recall {false_positive_rate(here, elsewhere):.1%}", end="")
    print()


def shares(probabilities: Floats) -> Floats:
    """(k,) probabilities -> (10,) the share of them in each tenth of 0..1."""
    counts, _ = np.histogram(probabilities, bins=10, range=(0, 1))
    found: Floats = counts / max(1, len(probabilities))
    return found


def draw_calibration(answers: Sequence[Answer], figure: Figure) -> None:
    """Reliability above the number of hits, and beside them the spread of P(answerable)."""
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    reliability, numbers = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    reliability.plot([0, 1], [0, 1], ":", color="black", lw=1)
    groups, highest = groups_of(answers), 0.0
    for (name, (said, right)), colour in zip(groups.items(), (HERE, ELSEWHERE), strict=False):
        means, observed, counts = zip(*calibration_curve(said, right), strict=True)
        error = expected_calibration_error(said, right)
        label = f"{name}, ECE {error:.3f}"
        reliability.plot(means, observed, "o-", color=colour, ms=5, label=label)
        numbers.plot(means, counts, "o-", color=colour, ms=4)
        highest = max(highest, 1.1 * max(*means, *observed))
    reliability.set(xlim=(0, highest), ylim=(0, highest), ylabel="observed share of gold")
    reliability.set_title("Is a hit as relevant as it says?", fontsize=11)
    reliability.legend(loc="upper left", fontsize=8)
    numbers.set(
        xlim=(0, highest), yscale="log", xlabel="relevance of a hit, ten bins", ylabel="hits"
    )
    spread = figure.add_subplot(grid[:, 1])
    draw_answerable(spread, *answerables_of(answers))
    for axes in (reliability, numbers, spread):
        axes.grid(alpha=0.3)


def draw_answerable(axes: Axes, here: Floats, elsewhere: Floats) -> None:
    """The share of the questions in each tenth of P(answerable), with and without an answer."""
    lows = np.arange(10) / 10
    axes.bar(lows + 0.03, shares(here), 0.04, color=HERE, label="asked where the answer is")
    if len(elsewhere):
        label = "asked where there is none"
        axes.bar(lows + 0.07, shares(elsewhere), 0.04, color=ELSEWHERE, label=label)
    threshold = DEFAULT_TUNING.calibration.threshold
    axes.axvline(threshold, color="black", ls=":", label=f"below {threshold:g}: no match")
    axes.set(xlim=(0, 1), xlabel="P(answerable)", ylabel="share of the questions")
    separated = f" (AUROC {auroc(here, elsewhere):.2f})" if len(elsewhere) else ""
    axes.set_title(f"Does it know when nothing answers?{separated}", fontsize=11)
    axes.legend(loc="upper center", fontsize=8, framealpha=1)


# --- command line ---------------------------------------------------------------------------------


def main() -> None:
    """Parse, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("benchmark", type=Path, metavar="BENCHMARK")
    parser.add_argument("--format", choices=FORMATS, help="[default: beir for a folder]")
    parser.add_argument("--namespace", action="append", default=[], help="may be repeated")
    parser.add_argument("--every", type=int, default=1, help="ask only each such question")
    parser.add_argument("--output", type=Path, default=Path(), help="where the pictures go")
    parser.add_argument("--home", type=Path, default=default_home(), help="keeps the embeddings")
    options = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("curves: the pictures need matplotlib; run: pip install matplotlib")
    try:
        benchmark = load(options.benchmark, options.format or guessed(options.benchmark))
        benchmark = benchmark.within(options.namespace) if options.namespace else benchmark
        cache = Home(options.home).benchmarks
        answers, figures = asyncio.run(measure(benchmark, max(1, options.every), cache))
    except ByHeartError as error:
        sys.exit(f"curves: {error}")
    print_redundancy(figures)
    print_calibration(answers)
    draw(answers, figures, options.output)


def draw(answers: Sequence[Answer], figures: Mapping[Diversity, Floats], folder: Path) -> None:
    """Write both pictures."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    redundancy = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    draw_redundancy(figures, redundancy)
    redundancy.savefig(folder / "redundancy.png")
    calibration = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
    draw_calibration(answers, calibration)
    calibration.savefig(folder / "calibration.png")


if __name__ == "__main__":
    main()
