"""What was measured beside its floor, what is demanded of it, and how both are told."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import psutil

Side = Literal["ratio", "value"]

DEPENDENCIES = ("byheart", "lancedb", "mcp", "numpy", "onnxruntime", "pyarrow", "tokenizers")
HEADINGS = ("", "memories", "measured", "", "floor", "ratio", "target", "", "floor is")
LEFT = {0, 3, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class Target:
    """What is aimed at for a figure's ratio to its floor, or for its value in the figure's unit.

    What is worse than the `limit` fails: that is a setback, and not the noise of a busy machine or
    an aim that is not reached yet. Times have none, since they tell the machine as well.
    """

    bound: float
    limit: float | None
    side: Side = "ratio"
    is_least: bool = False

    def holds(self, found: float) -> bool:
        return self._keeps(found, self.bound)

    def is_setback(self, found: float) -> bool:
        return self.limit is not None and not self._keeps(found, self.limit)

    def _keeps(self, found: float, bound: float) -> bool:
        return found >= bound if self.is_least else found <= bound

    def __str__(self) -> str:
        sign = ">=" if self.is_least else "<="
        return f"{sign} {self.bound:g}{' x' if self.side == 'ratio' else ''}"


TARGETS: dict[tuple[str, int | None], tuple[Target, ...]] = {
    ("spawn to initialize", None): (Target(1.3, 1.6),),
    ("spawn to first full answer", 10_000): (Target(1.2, 2.5),),
    ("recall p50 to embedding", 50): (Target(2.0, 3.0), Target(8, None, "value")),
    ("recall p99", 50): (Target(20, None, "value"),),
    ("recall p50", 100_000): (Target(1.5, 3.0),),
    ("recall p50, growth", 1_000_000): (Target(3, 5),),
    ("RSS while serving", 1_000_000): (Target(1_500, 1_800, "value"),),
    ("RSS when idle", 10_000): (Target(250, 480, "value"),),
    ("CPU of 5 idle seconds", 10_000): (Target(0.05, 0.5, "value"),),
    ("import", None): (Target(0.85, 0.6, is_least=True),),
    ("recall p50, written singly", 10_000): (Target(1.2, 1.6),),
    ("disk, written singly", 10_000): (Target(2, 3),),
    ("recall p99 amid reindex", 100_000): (Target(3, 8),),
}
"""By the figure's name and the number of memories; None where that does not matter."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians over interleaved rounds; `ratio` is the median of the rounds' own ratios."""

    name: str
    size: int | None
    value: float
    unit: str
    rounds: tuple[float, ...]
    floor: float | None = None
    floor_is: str = ""
    ratio: float | None = None
    floor_rounds: tuple[float, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        return TARGETS.get((self.name, self.size), ())

    def found(self, target: Target) -> float:
        """What the target is of; a ratio that nobody measured is as bad as can be."""
        worst = float("-inf") if target.is_least else float("inf")
        ratio = worst if self.ratio is None else self.ratio
        return ratio if target.side == "ratio" else self.value

    @property
    def is_setback(self) -> bool:
        return any(target.is_setback(self.found(target)) for target in self.targets)

    @property
    def verdict(self) -> str:
        if not self.targets:
            return ""
        held = all(target.holds(self.found(target)) for target in self.targets)
        return "SETBACK" if self.is_setback else "held" if held else "MISSED"

    def cells(self) -> tuple[str, ...]:
        """One cell under each of `HEADINGS`."""
        return (
            self.name,
            "" if self.size is None else f"{self.size:,}",
            shown(self.value),
            self.unit,
            "" if self.floor is None else shown(self.floor),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            ", ".join(map(str, self.targets)),
            self.verdict,
            self.floor_is,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"targets": list(map(str, self.targets)), "verdict": self.verdict}

    def __str__(self) -> str:
        of = "" if self.size is None else f" at {self.size:,}"
        floor = "" if self.floor is None else f", {self.floor_is} {shown(self.floor)}"
        ratio = "" if self.ratio is None else f", ratio {self.ratio:.2f}"
        bounds = " and ".join(map(str, self.targets))
        target = f" ({bounds}: {self.verdict})" if bounds else ""
        return f"{self.name}{of}: {shown(self.value)} {self.unit}{floor}{ratio}{target}"


class Figures:
    """What one test has measured; every figure is kept, whether its target holds or not."""

    def __init__(self, sheet: list[Figure]) -> None:
        self._sheet = sheet
        self._own: list[Figure] = []

    def record(
        self,
        name: str,
        size: int | None,
        unit: str,
        rounds: Sequence[float],
        floors: Sequence[float] = (),
        floor_is: str = "",
    ) -> None:
        """Keep a figure of one value per round, and as many of its floor, in the same unit."""
        pairs = list(zip(rounds, floors, strict=True)) if floors else []
        figure = Figure(
            name=name,
            size=size,
            value=statistics.median(rounds),
            unit=unit,
            rounds=tuple(rounds),
            floor=statistics.median(floors) if floors else None,
            floor_is=floor_is,
            ratio=statistics.median(ours / floor for ours, floor in pairs) if pairs else None,
            floor_rounds=tuple(floors),
        )
        self._sheet.append(figure)
        self._own.append(figure)
        print(f"\n{figure}", end="")

    def hold(self) -> None:
        """Fail if a figure of this test is worse than its limit."""
        setbacks = [str(figure) for figure in self._own if figure.is_setback]
        assert not setbacks, "\n".join(["worse than their limits:", *setbacks])


@dataclass(slots=True)
class Conditions:
    """What the figures were measured on; the load tells how disturbed they are."""

    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    load_at_start: tuple[float, ...] = field(default_factory=psutil.getloadavg)

    def as_dict(self) -> dict[str, Any]:
        return {
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.began).total_seconds()),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cores": len(psutil.Process().cpu_affinity() or ()) or os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "load_average": {"start": self.load_at_start, "end": psutil.getloadavg()},
            "versions": {name: version(name) for name in DEPENDENCIES},
        }


def shown(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(sheet: Sequence[Figure]) -> Iterator[str]:
    """The lines of a table: figures of one name together, in the order they came, by size."""
    names = list(dict.fromkeys(figure.name for figure in sheet))
    ordered = sorted(sheet, key=lambda one: (names.index(one.name), one.size or 0))
    rows = [HEADINGS, *(figure.cells() for figure in ordered)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place in LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def write_json(path: Path, sheet: Sequence[Figure], conditions: Conditions) -> None:
    """Write all figures and what they were measured on."""
    content = conditions.as_dict() | {"figures": [figure.as_dict() for figure in sheet]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
