"""What a writer remembers of the latest version, so that a new text costs no look-up.

A process that writes alone knows after each commit what the table holds. Once another process has
committed, the table is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from byheart_store.tables.database import Database

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SESSIONS = 1_000


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The last turn of a session, and the turns that the next one is searched with."""

    turn: int
    before: tuple[str, ...]


Ends: TypeAlias = dict[tuple[str, str], SessionEnd | None]
"""The ends of sessions by namespace and session; None where there is no such session."""


@dataclass(slots=True)
class CachedVersion:
    """One version of the memories: the first 64 bits of each digest, and the ends of sessions.

    `stored` (n,) is sorted; `added` are those committed since it was read.
    """

    version: int
    stored: NDArray[np.uint64]
    added: set[int] = field(default_factory=set)
    ends: Ends = field(default_factory=dict)

    def may_hold(self, digest: str) -> bool:
        """False where no memory has this digest; True where one may."""
        start = _start(digest)
        position = int(self.stored.searchsorted(start))
        is_stored = position < len(self.stored) and int(self.stored[position]) == start
        return is_stored or start in self.added


class WriteCache:
    """Keeps a `CachedVersion` in step with this process's own commits."""

    def __init__(self, database: Database) -> None:
        """Nothing is known before the first write."""
        self._database = database
        self._cached: CachedVersion | None = None
        self._own: int | None = None

    async def at(self, version: int) -> CachedVersion | None:
        """What is known of this version; None where other processes are writing as well."""
        if self._cached is not None and self._cached.version == version:
            return self._cached
        self._cached = await self._read(version) if self._own == version else None
        return self._cached

    def committed(
        self,
        before: int,
        after: int,
        digests: Iterable[str],
        ends: Mapping[tuple[str, str], SessionEnd | None],
    ) -> None:
        """Take over what this process has added to the version `before`."""
        self._own = after
        cached = self._cached
        if cached is None or cached.version != before or after != before + 1:
            return
        cached.version = after
        cached.added.update(map(_start, digests))
        if len(cached.ends) + len(ends) > MOST_SESSIONS:
            cached.ends.clear()
        cached.ends.update(ends)

    async def _read(self, version: int) -> CachedVersion:
        import numpy as np

        table = await self._database.memories_at(version)
        rows = await table.query().where("passage = 0").select(["digest"]).to_arrow()
        starts = (_start(digest) for digest in rows.column("digest").to_pylist())
        return CachedVersion(version, np.sort(np.fromiter(starts, np.uint64, len(rows))))


def _start(digest: str) -> int:
    return int(digest[:16], 16)
