"""The rows of damaged tables: read, checked and, where a repair is asked for, written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from byheart_store.tables import schema
from byheart_store.tables.engine_errors import is_panic
from byheart_store.tables.lance_manifest import DELETIONS
from byheart_store.tables.ledger import replace_bytes
from byheart_store.tables.schema import VECTOR_PREFIX
from byheart_store.upkeep.damage import TableFiles, no_deletions, spare_of
from byheart_store.upkeep.repair.findings import Finding
from byheart_store.upkeep.repair.rebuilding import Rebuilt, rebuild
from byheart_store.upkeep.repair.row_checks import Checked, check_rows
from byheart_store.upkeep.repair.salvage import Read, read_earlier, read_rows, without_gaps
from byheart_store.upkeep.repair.visit import Visit

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable


class RowRepair:
    """Sees to the rows of the tables of one visit.

    `rows` are those of the memories, as they are or would be after a repair; `to_be_embedded`
    tells that some have no vector any more.
    """

    def __init__(self, visit: Visit) -> None:
        """No row is read yet."""
        self.rows: pa.Table | None = None
        self.to_be_embedded = False
        self._visit = visit
        self._from_earlier = 0

    def note_damage(self, files: TableFiles) -> Finding:
        """Note which files of rows are damaged; what can be saved is told once they are read."""
        damaged = files.damaged_data()
        names = ", ".join(f"{name} ({reason})" for name, reason in list(damaged.items())[:3])
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        return self._visit.found.add("data", files.name, f"damaged: {names}{more}", "")

    def put_spares(self, files: TableFiles) -> None:
        """Deletions come back from the ledger, or rows that were deleted do."""
        for name, reason in files.damaged_data().items():
            if not name.startswith(f"{DELETIONS}/"):
                continue
            spare = spare_of(self._visit.home, files, name, self._visit.lines)
            content = spare.read_bytes() if spare else no_deletions()
            if spare is None:
                self._visit.undeleted += files.deleted_by(name)
                self._visit.seen.substitutes.add(files.folder / name)
            self._visit.move(
                files, name, f"{reason} file of deleted rows", keep_line=spare is not None
            )
            (files.folder / name).parent.mkdir(exist_ok=True)
            replace_bytes(files.folder / name, content)
            self._visit.seen.forget(files.folder / name)

    async def see_to_memories(
        self, table: AsyncTable, files: TableFiles, data: Finding | None
    ) -> bool | None:
        """See to the memories' rows -> whether they need writing anew, None if unreadable."""
        read, data = await self._read(table, files, data)
        if read is None:
            return None
        checked = check_rows(read.sound)
        self._visit.found.memories = checked.memories
        findings = self._row_findings(checked)
        if data is not None or findings:
            await self._rebuild(table, files, read, checked, data, findings)
        else:
            self.rows = read.sound
        return bool(data or findings)

    async def see_to_log(self, table: AsyncTable, files: TableFiles, data: Finding | None) -> None:
        """See to a table of recalls or labels: what can be read of it is kept."""
        import pyarrow as pa

        read, data = await self._read(table, files, data)
        if read is None or data is None:
            return
        layout = await table.schema()
        rows = without_gaps(read.damaged, layout)
        kept = pa.concat_tables([read.sound.select(layout.names).cast(layout), rows])
        lost = len(read.damaged) + read.unread - len(rows)
        data.remedy = f"{len(kept):,} {files.name} are kept, {lost:,} lost; no memory is affected"
        if self._visit.repair:
            await table.add(kept, mode="overwrite")
            data.mended = True

    async def _read(
        self, table: AsyncTable, files: TableFiles, data: Finding | None
    ) -> tuple[Read | None, Finding | None]:
        """Read the rows; files that no ledger has marked may turn out damaged."""
        manifest = files.manifest
        fragments = manifest.fragments if manifest else ()
        damaged = set(files.damaged_data())
        try:
            return await read_rows(table, fragments, damaged), data
        except (RuntimeError, OSError, ValueError):
            pass
        except BaseException as error:
            if not is_panic(error):
                raise
        damaged |= {name for part in fragments for name in part.names()}
        data = data or self._visit.found.add(
            "data", files.name, "files are damaged that no digest is recorded of", ""
        )
        try:
            return await read_rows(table, fragments, damaged), data
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            data.remedy = f"no rows can be read before the files of deleted rows are: {reason}"
            return None, data

    def _row_findings(self, checked: Checked) -> list[Finding]:
        found = []
        for kind, count, what, remedy in (
            (
                "text",
                len(checked.altered),
                "memories have another text than their digest says",
                "they are moved to set-aside",
            ),
            (
                "passage",
                len(checked.headless),
                "memories are without a first row: only passages are left",
                "the passages are moved to set-aside",
            ),
            (
                "passage",
                len(checked.lacking),
                "memories lack passages: parts of them are not found",
                "their passages are made anew",
            ),
            (
                "vector",
                checked.vectors,
                "vectors are of no model: not of unit length",
                "they are embedded anew",
            ),
        ):
            if count:
                text = f"{count:,} {what}"
                found.append(self._visit.found.add(kind, schema.MEMORIES, text, remedy))  # type: ignore[arg-type]
        return found

    async def _rebuild(
        self,
        table: AsyncTable,
        files: TableFiles,
        read: Read,
        checked: Checked,
        data: Finding | None,
        findings: list[Finding],
    ) -> None:
        rebuilt = rebuild(read, checked, await table.schema())
        if data is not None:
            rebuilt = await self._with_earlier(table, files, read, rebuilt)
        rows = rebuilt.rows
        self._visit.found.recovered = tuple(sorted(rebuilt.recovered))
        self._visit.found.lost = tuple(sorted(rebuilt.lost))
        before = files.manifest.rows if files.manifest else 0
        self._visit.found.lost_rows = max(0, before - len(rows))
        if data is None:
            self._visit.found.lost_rows += rebuilt.missing
        self._visit.found.memories = sum(
            number == 0 for number in rows.column("passage").to_pylist()
        )
        if data is not None:
            data.remedy = self._what_is_saved(len(rebuilt.recovered))
        self.rows = rows
        if not self._visit.repair:
            return
        if rebuilt.remains:
            self._visit.set_aside.keep_rows(
                "remains-of-memories.jsonl", rebuilt.remains, "rows of memories that were lost"
            )
        # What this says of bad vectors concerns nulls: they stay, to be embedded.
        await table.add(rows, mode="overwrite", on_bad_vectors="null")
        self.to_be_embedded = any(
            rows.column(name).null_count
            for name in rows.column_names
            if name.startswith(VECTOR_PREFIX)
        )
        for finding in filter(None, [data, *findings]):
            finding.mended = True

    async def _with_earlier(
        self, table: AsyncTable, files: TableFiles, read: Read, rebuilt: Rebuilt
    ) -> Rebuilt:
        """The table with what earlier versions hold of its lost rows."""
        versions = [one async for one in self._visit.earlier_versions(files)]
        earlier = await read_earlier(versions, read, set(rebuilt.lost))
        if earlier is None:
            return rebuilt
        self._from_earlier = len(earlier)
        read = read.with_earlier(earlier)
        again = rebuild(read, check_rows(read.sound), await table.schema())
        again.recovered += sorted(set(earlier.column("id").to_pylist()) - set(again.recovered))
        return again

    def _what_is_saved(self, recovered: int) -> str:
        lost = self._visit.found.lost_rows
        parts = [f"{self._visit.found.memories:,} memories are kept"]
        if recovered:
            parts.append(
                f"{recovered:,} of them read from damaged files or earlier versions, "
                "their texts verified, their ids, times and tags can't be"
            )
        named = (
            f", among them of {len(self._visit.found.lost)} known by id"
            if self._visit.found.lost
            else ""
        )
        if self._from_earlier:
            parts.append(f"{self._from_earlier:,} passages come from an earlier version")
        parts.append(f"{lost:,} passages are lost{named}" if lost else "none is lost")
        if lost:
            parts.append("a backup may still hold them: byheart restore FILE --replace")
        if self._visit.undeleted:
            parts.append(
                f"up to {self._visit.undeleted:,} forgotten passages are back: forget them again"
            )
        return "; ".join(parts)
