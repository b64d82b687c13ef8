"""One visit to a store's tables: what was found so far, and the files that are moved on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from byheart_store.home import Home
from byheart_store.tables.ledger import Ledger, Recorded, ledger_line, read_ledger, replace_bytes
from byheart_store.upkeep.damage import Seen, TableFiles, table_files
from byheart_store.upkeep.repair.findings import Examined, Finding
from byheart_store.upkeep.set_aside import SetAside

if TYPE_CHECKING:
    from lancedb import AsyncConnection
    from lancedb.table import AsyncTable

EARLIER_VERSIONS_TRIED = 8


class Visit:
    """What the steps of an examination share, under the write lock.

    `lines` is the ledger as it was read, `gone` the names that were set aside since. `undeleted`
    counts forgotten rows that are back, since nothing tells any more that they were deleted.
    `to_be_opened` are findings that are mended by opening the store.
    """

    def __init__(self, home: Home, seen: Seen, *, repair: bool) -> None:
        """Nothing is looked at yet."""
        self.home = home
        self.seen = seen
        self.repair = repair
        self.found = Examined(home.folder)
        self.set_aside = SetAside(home)
        self.lines: Mapping[str, Recorded] = {}
        self.gone: set[str] = set()
        self.undeleted = 0
        self.to_be_opened: list[Finding] = []
        self.connection: AsyncConnection

    async def connect(self) -> None:
        """Read the ledger and open the database; nothing is cached: what a file says now counts."""
        import lancedb

        self.lines = read_ledger(self.home)
        self.connection = await lancedb.connect_async(
            str(self.home.tables),
            read_consistency_interval=timedelta(0),
            session=lancedb.Session(index_cache_size_bytes=0, metadata_cache_size_bytes=0),
        )

    def close(self) -> None:
        """Let go of the tables."""
        self.connection.close()  # type: ignore[no-untyped-call]

    def files_of(self, name: str) -> TableFiles:
        """The files of a table as they are now."""
        return table_files(self.home, name, self.ledger(), self.seen)

    def ledger(self) -> dict[str, Recorded]:
        """What is recorded of the files that are still in their places."""
        return {name: file for name, file in self.lines.items() if name not in self.gone}

    async def earlier_versions(self, files: TableFiles) -> AsyncIterator[AsyncTable]:
        """The earlier versions that can be read, newest first."""
        broken = set(files.broken_versions())
        versions = sorted((one for one in files.versions if one not in broken), reverse=True)
        for version in versions[:EARLIER_VERSIONS_TRIED]:
            if version == files.latest:
                continue
            table = await self.connection.open_table(files.name)
            await table.checkout(version)
            yield table

    def move(self, files: TableFiles, name: str, why: str, *, keep_line: bool = False) -> None:
        """Set a file of a table aside; its line in the ledger goes too, unless it is kept."""
        path = files.folder / name
        if not keep_line:
            self.gone.add(f"{files.folder.name}/{name}")
        if path.exists():
            self.set_aside.move(path, why)
        self.seen.forget(path)

    def settle(self) -> None:
        """Make what was mended durable, and record it."""
        self.forget_lines()
        Ledger(self.home, durable=True).settle()

    def forget_lines(self) -> None:
        """Strike what was set aside from the ledger, so that its names may come again."""
        if not self.gone or not self.home.digests.exists():
            return
        lines = [ledger_line(name, at) for name, at in self.ledger().items()]
        replace_bytes(self.home.digests, "".join(lines).encode())
        self.lines = self.ledger()
        self.gone.clear()
