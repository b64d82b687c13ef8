"""A place for what stands in the way and can't be explained: it is moved there, never deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from byheart_store.home import Home
from byheart_store.moments import now


class SetAside:
    """The folder `set-aside/<UTC time>` of one repair, made when something is put there."""

    def __init__(self, home: Home) -> None:
        """Nothing is made yet."""
        self._home = home.folder
        self._folder = home.set_aside(now())

    @property
    def folder(self) -> Path | None:
        """The folder, once there is something in it."""
        return self._folder if self._folder.exists() else None

    def move(self, path: Path, why: str) -> None:
        """Move a file or a folder here, under the path that it had below the home."""
        target = self._folder / path.relative_to(self._home)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        self._note(path, why)

    def keep_rows(self, name: str, rows: Iterable[Mapping[str, Any]], why: str) -> None:
        """Write rows as lines of JSON."""
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(dict(row), ensure_ascii=False, default=str) + "\n" for row in rows]
        target.write_text("".join(lines), encoding="utf-8")
        self._note(self._home / name, why)

    def _note(self, path: Path, why: str) -> None:
        with (self._folder / "why.txt").open("a", encoding="utf-8") as notes:
            notes.write(f"{path.relative_to(self._home).as_posix()}: {why}{os.linesep}")
