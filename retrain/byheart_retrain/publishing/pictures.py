"""Pictures of a retraining: who gained, on which questions, and how the training went."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_retrain.publishing.report import Mean, Report, TypeScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

GAINS, BY_TYPE, TRAINING = "gain-per-query.png", "by-type.png", "training.png"

BEFORE, AFTER = "#d55e00", "#0072b2"
"""Vermilion and blue of Okabe and Ito's palette, which colour-blind people tell apart."""

_MOST_TYPES = 24
_THIN = 1.3
_SMALL = 8.5
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": _SMALL,
    # The name of a type may hold a dollar sign.
    "text.parse_math": False,
}


def draw(folder: Path, report: Report) -> list[str]:
    """Write the pictures that there are figures for; returns their names."""
    pictures: dict[str, Callable[[Figure, Report], None]] = {}
    if report["gains"]:
        pictures |= {GAINS: draw_gains, BY_TYPE: draw_types}
    if report["training"].get("curve"):
        pictures[TRAINING] = draw_training
    for name, content in pictures.items():
        _save(folder / name, content, report)
    return list(pictures)


def _save(path: Path, content: Callable[[Figure, Report], None], report: Report) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        # A type may be named in letters that the font lacks.
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(8, 4.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        content(figure, report)
        figure.savefig(path, metadata={"Software": None})


def draw_gains(figure: Figure, report: Report) -> None:
    """One bar per test query, from the greatest gain to the greatest loss."""
    gains = sorted(report["gains"], reverse=True)
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    count = len(gains)
    axes = figure.subplots()
    # Bars side by side, drawn as one surface: hundreds of gaps would flicker.
    edges = range(count + 1)
    axes.stairs(gains[:better], edges[: better + 1], fill=True, color=AFTER)
    axes.stairs(gains[count - worse :], edges[count - worse :], fill=True, color=BEFORE)
    axes.axhline(0, color="black", lw=0.8)
    counts = [
        _key("s", AFTER, f"{better} better"),
        _key("s", "none", f"{count - better - worse} as before"),
        _key("s", BEFORE, f"{worse} worse"),
    ]
    axes.legend(handles=[*counts, *_mark_mean(axes, report["scores"]["gain"]["ndcg@10"])])
    axes.set_xlim(0, count)
    axes.margins(y=0.08)
    axes.set_xlabel(f"{count} test queries, by gain")
    axes.set_ylabel("gain in NDCG@10")
    axes.set_title("What each test query gains or loses")
    axes.grid(axis="y")


def _mark_mean(axes: Axes, gain: Mean) -> list[Line2D]:
    mean, low, high = gain["mean"], gain["low"], gain["high"]
    if mean is None or low is None or high is None:
        return []
    axes.axhspan(low, high, color="black", alpha=0.15, lw=0)
    label = f"mean {mean:+.3f} ({low:+.3f} to {high:+.3f})"
    return [axes.axhline(mean, color="black", lw=_THIN, ls="--", label=label)]


def _key(shape: str, colour: str, label: str) -> Line2D:
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=shape, ls="", mfc=colour, mec=colour, label=label)


def draw_types(figure: Figure, report: Report) -> None:
    """NDCG@10 before and after with intervals: of all test queries, then by type."""
    rows = _type_rows(report)
    figure.set_size_inches(8, 1.2 + 0.4 * len(rows))
    axes = figure.subplots()
    heights = [-float(position) for position in range(len(rows))]
    _draw_means(axes, [row["before"] for row in rows.values()], heights, +0.13, BEFORE, "before")
    _draw_means(axes, [row["after"] for row in rows.values()], heights, -0.13, AFTER, "after")
    axes.set_yticks(heights, [f"{name} ({row['queries']})" for name, row in rows.items()])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    if len(rows) > 1:
        axes.axhline(-0.5, color="black", lw=0.6, alpha=0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean NDCG@10 with 95% interval")
    axes.set_title("By type of question (number of queries)")
    axes.grid(axis="x")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def _type_rows(report: Report) -> Mapping[str, TypeScores]:
    """All queries first, then the types with the most."""
    scores = report["scores"]
    whole = TypeScores(
        queries=len(report["gains"]),
        before=scores["before"]["ndcg@10"],
        after=scores["after"]["ndcg@10"],
        gain=scores["gain"]["ndcg@10"],
    )
    types = sorted(report["by_type"].items(), key=lambda one: (-one[1]["queries"], one[0]))
    return {"all": whole, **{name[:40]: row for name, row in types[:_MOST_TYPES]}}


def _draw_means(
    axes: Axes,
    means: Sequence[Mean],
    heights: Sequence[float],
    offset: float,
    colour: str,
    label: str,
) -> None:
    """A dot for each mean, a line for its interval, beside the middle of its row."""
    for interval, height in zip(means, heights, strict=True):
        mean, low, high = interval["mean"], interval["low"], interval["high"]
        if mean is None or low is None or high is None:
            continue
        position = height + offset
        axes.plot([low, high], [position, position], color=colour, lw=_THIN, solid_capstyle="round")
        axes.plot(mean, position, "o", color=colour, ms=5, mec="white", mew=0.6)
    axes.plot([], [], "o-", color=colour, lw=_THIN, ms=5, label=label)


def draw_training(figure: Figure, report: Report) -> None:
    """The loss and the development score over the steps, one above the other."""
    curve: Sequence[Mapping[str, float]] = report["training"]["curve"]
    loss, dev = figure.subplots(2, 1, sharex=True)
    for axes, name, colour, shape in ((loss, "loss", BEFORE, "-"), (dev, "dev", AFTER, "o-")):
        points = [(one["step"], one[name]) for one in curve if name in one]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, shape, color=colour, lw=_THIN, ms=4)
        axes.grid()
    measured = [(one["dev"], one["step"]) for one in curve if "dev" in one]
    if measured:
        best = max(measured, key=lambda one: (one[0], -one[1]))
        label = f"best: {best[0]:.3f} at step {best[1]:g}"
        dev.axvline(best[1], color="black", lw=0.8, ls=":", label=label)
        dev.legend(loc="lower right")
    loss.set_ylabel("training loss")
    loss.set_title("How the training went")
    dev.set_ylabel("NDCG@10,\ndevelopment queries")
    dev.set_xlabel("training steps")
    figure.align_ylabels()
