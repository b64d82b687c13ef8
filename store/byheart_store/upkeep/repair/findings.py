"""What an examination of a store has found, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "manifest",
    "data",
    "index",
    "orphan",
    "earlier version",
    "text",
    "passage",
    "vector",
    "reindex",
    "description",
    "format",
]
"""What is damaged, or in the way."""


@dataclass(slots=True)
class Finding:
    """One thing that is wrong: what it is, and what a repair does or has done about it."""

    kind: Kind
    where: str
    what: str
    remedy: str
    mended: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Examined:
    """What was found in a store, and what a repair saved and lost.

    `memories` counts those that are there, None where the table can't be read. `recovered` were
    read from damaged files or earlier versions, and their texts verified; their other fields
    can't be. `lost` are the ids of lost memories as far as they are known, and `lost_rows` counts
    the passages of all.
    """

    home: Path
    findings: list[Finding] = field(default_factory=list)
    memories: int | None = None
    recovered: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    lost_rows: int = 0
    set_aside: Path | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing was found, or all of it is mended."""
        return all(finding.mended for finding in self.findings)

    def add(self, kind: Kind, where: str, what: str, remedy: str) -> Finding:
        """Note a finding."""
        finding = Finding(kind, where, what, remedy)
        self.findings.append(finding)
        return finding

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "home": str(self.home),
            "healthy": self.healthy,
            "findings": [finding.as_dict() for finding in self.findings],
            "memories": self.memories,
            "recovered": list(self.recovered),
            "lost": list(self.lost),
            "lost_passages": self.lost_rows,
            "set_aside": None if self.set_aside is None else str(self.set_aside),
        }
