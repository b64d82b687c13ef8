"""Cost against size, each beside its floor, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .figures import Figure

BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#666666"
"""Of Okabe and Ito's palette, which colour-blind people tell apart."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure at all sizes, or its floor, which is dashed."""

    figure: str
    label: str
    colour: str
    is_floor: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str
    lines: tuple[Line, ...]


PANELS = (
    Panel(
        "A recall",
        "ms",
        (
            Line("recall p99", "p99", ORANGE),
            Line("recall over stdio p50", "p50 over stdio", GREEN),
            Line("recall p50", "p50", BLUE),
            Line("recall p50", "embedding + slower leg", GREY, is_floor=True),
            Line("embedding", "embedding alone", VERMILION),
        ),
    ),
    Panel(
        "From spawn to the first full answer",
        "s",
        (
            Line("spawn to first full answer", "byheart serve", BLUE),
            Line("spawn to first full answer", "bare process", GREY, is_floor=True),
        ),
    ),
    Panel(
        "Memory and disk",
        "MB",
        (
            Line("RSS while serving", "RSS, serving", BLUE),
            Line("RSS while serving", "RSS, bare process", GREY, is_floor=True),
            Line("disk", "disk", GREEN),
            Line("disk", "texts and vectors", ORANGE, is_floor=True),
        ),
    ),
    Panel(
        "Writing",
        "ms (reindex: s)",
        (
            Line("remember p99", "remember, p99", ORANGE),
            Line("remember p50", "remember, p50", BLUE),
            Line("remember p50", "embedding + bare add", GREY, is_floor=True),
            Line("reindex", "reindex, all of it", GREEN),
        ),
    ),
)


def draw_costs(path: Path, sheet: Sequence[Figure]) -> None:
    """Write the picture of the figures that there are."""
    style = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    with rc_context(style):
        picture = Picture(figsize=(11, 8), dpi=130, layout="constrained")
        FigureCanvasAgg(picture)
        for axes, panel in zip(picture.subplots(2, 2).flat, PANELS, strict=True):
            _draw(axes, panel, sheet)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path, metadata={"Software": None})


def _draw(axes: Axes, panel: Panel, sheet: Sequence[Figure]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for line in panel.lines:
        points = sorted(
            (figure.size, figure.floor if line.is_floor else figure.value)
            for figure in sheet
            if figure.name == line.figure and figure.size is not None
        )
        if points:
            sizes, costs = zip(*points, strict=True)
            shape = "s--" if line.is_floor else "o-"
            axes.plot(sizes, costs, shape, color=line.colour, ms=4, lw=1.4, label=line.label)
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.set_xlabel("memories")
    axes.set_ylabel(panel.unit)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_written_out))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", alpha=0.3, lw=0.6)
    if axes.lines:
        axes.legend(fontsize=8.5)
    else:
        axes.set_visible(False)


def _written_out(value: float, _: object) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
