"""Examining the tables of a store one after the other, and mending them where that is asked for.

A table is mended by commits on top of what is there: running processes see the mended table with
their next read, and a repair that is killed leaves a store that opens as well as before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from byheart_store.home import Home
from byheart_store.tables import indexes, schema
from byheart_store.tables.engine_errors import is_panic
from byheart_store.tables.schema import Description
from byheart_store.upkeep.damage import Seen, TableFiles
from byheart_store.upkeep.repair.description_repair import read_description
from byheart_store.upkeep.repair.findings import Examined, Finding, Kind
from byheart_store.upkeep.repair.leftovers import set_leftovers_aside, set_staging_aside
from byheart_store.upkeep.repair.manifest_repair import mend_manifest
from byheart_store.upkeep.repair.row_repair import RowRepair
from byheart_store.upkeep.repair.visit import Visit

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable


TABLES = (schema.MEMORIES, schema.RECALLS, schema.LABELS)


class Examination:
    """One examination of all tables, with or without a repair, under the write lock."""

    def __init__(self, home: Home, seen: Seen, *, repair: bool) -> None:
        """Nothing is looked at yet."""
        self.description: Description | None = None
        self.is_foreign = False
        self._visit = Visit(home, seen, repair=repair)
        self._rows = RowRepair(self._visit)

    @property
    def found(self) -> Examined:
        """What was found so far."""
        return self._visit.found

    @property
    def rows(self) -> pa.Table | None:
        """The rows of the memories, as they are or would be after a repair."""
        return self._rows.rows

    @property
    def to_be_embedded(self) -> bool:
        """Whether some memories have no vector any more."""
        return self._rows.to_be_embedded

    @property
    def to_be_opened(self) -> list[Finding]:
        """The findings that are mended by opening the store."""
        return self._visit.to_be_opened

    def add_once(self, kind: Kind, what: str, remedy: str) -> None:
        """Note a finding about the memories unless it is noted already."""
        if not any(finding.what == what for finding in self.found.findings):
            self.found.add(kind, schema.MEMORIES, what, remedy)

    def interrupted_switch(self) -> Finding | None:
        """The finding that a change of models was interrupted, if it was."""
        column = self.description.pending_column if self.description else None
        if column is None or self._visit.home.is_at_work("reindex"):
            return None
        return self.found.add(
            "reindex",
            schema.MEMORIES,
            f"the change to the model {column.model} was interrupted: recall uses the former one",
            "it is finished, or given up where that model can't be had",
        )

    async def tables(self) -> None:
        """Examine the files and the rows of all tables."""
        visit = self._visit
        await visit.connect()
        try:
            files = {name: visit.files_of(name) for name in TABLES}
            if await self._is_newer(files[schema.MEMORIES]):
                return
            for name in TABLES:
                await self._table(files[name])
            set_staging_aside(visit)
        finally:
            visit.close()
        if visit.repair:
            await asyncio.to_thread(visit.settle)
        self.found.set_aside = visit.set_aside.folder

    async def _is_newer(self, files: TableFiles) -> bool:
        """Whether a newer ByHeart wrote the store, which is then left alone."""
        if files.bad_manifest is not None or not files.versions:
            return False
        try:
            table = await self._visit.connection.open_table(files.name)
            description = schema.description_of(await table.schema())
        except (RuntimeError, OSError, ValueError, KeyError, TypeError):
            return False
        if description.format <= schema.FORMAT:
            return False
        self.is_foreign = True
        self.found.add(
            "format",
            files.name,
            f"the store has format {description.format}, this ByHeart knows up to {schema.FORMAT}: "
            "nothing was examined",
            "upgrade it: pip install -U byheart",
        )
        return True

    async def _table(self, files: TableFiles) -> None:
        visit, rows = self._visit, self._rows
        if not files.paths and not files.latest:
            self._absent(files)
            return
        files = await mend_manifest(visit, files)
        if files.manifest is None:
            return
        table = await visit.connection.open_table(files.name)
        if files.name == schema.MEMORIES:
            self.description = await read_description(visit, table, files)
        data = rows.note_damage(files) if files.damaged_data() else None
        if data is not None and visit.repair:
            rows.put_spares(files)
            files = visit.files_of(files.name)
            table = await visit.connection.open_table(files.name)
        if files.name == schema.MEMORIES:
            rebuilt = await rows.see_to_memories(table, files, data)
            if rebuilt is not None:
                await self._index(table, files, rebuilt=rebuilt and visit.repair)
        else:
            await rows.see_to_log(table, files, data)
        set_leftovers_aside(visit, files.name)

    def _absent(self, files: TableFiles) -> None:
        finding = self.found.add(
            "manifest", files.name, f"the table {files.name} is missing", "it is made, empty"
        )
        self.to_be_opened.append(finding)

    async def _index(self, table: AsyncTable, files: TableFiles, *, rebuilt: bool) -> None:
        reason = files.index_problem()
        if rebuilt and reason is None:
            await indexes.renew(table)
            return
        if reason is None and await _is_searchable(table):
            return
        finding = self.found.add(
            "index",
            schema.MEMORIES,
            f"an index of the memories {reason or 'is unreadable'}: "
            "recall fails, or misses what it held",
            "it is made anew",
        )
        if self._visit.repair:
            await indexes.renew(table)
            finding.mended = True


async def _is_searchable(memories: AsyncTable) -> bool:
    from lancedb.query import MatchQuery

    try:
        words = MatchQuery("the memory", schema.SEARCHED)  # type: ignore[call-arg]
        query = memories.query().nearest_to_text(words).select(["_rowid", "_score"])
        await query.limit(1).to_arrow()
    except (RuntimeError, OSError, ValueError):
        return False
    except BaseException as error:
        if not is_panic(error):
            raise
        return False
    return True
