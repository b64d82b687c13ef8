"""Examining the tables of a store one after the other, and mending them where that is asked for.

A table is mended by commits on top of what is there: running processes see the mended table with
their next read, and a repair that is killed leaves a store that opens as well as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from byheart_store.home import STAGING, Home
from byheart_store.tables import indexes, schema
from byheart_store.tables.lance_manifest import version_of
from byheart_store.tables.ledger import (
    Ledger,
    Recorded,
    read_ledger,
    replace_bytes,
    sync_folder,
)
from byheart_store.tables.schema import Description
from byheart_store.upkeep.damage import (
    VERSIONS,
    Seen,
    TableFiles,
    no_deletions,
    spare_of,
    table_files,
)
from byheart_store.upkeep.repair.findings import Examined, Finding, Kind
from byheart_store.upkeep.repair.salvage import (
    VECTOR_PREFIX,
    Checked,
    Read,
    Rebuilt,
    check_rows,
    is_panic,
    read_earlier,
    read_rows,
    rebuild,
    without_gaps,
)
from byheart_store.upkeep.set_aside import SetAside

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import AsyncConnection
    from lancedb.table import AsyncTable


TABLES = (schema.MEMORIES, schema.RECALLS, schema.LABELS)

EARLIER_VERSIONS_TRIED = 8


class Examination:
    """One examination of all tables, with or without a repair, under the write lock.

    `rows` are those of the memories, as they are or would be after a repair. `to_be_embedded`
    tells that some have no vector any more, `to_be_opened` what is mended by opening the store.
    """

    def __init__(self, home: Home, seen: Seen, *, repair: bool) -> None:
        """Nothing is looked at yet."""
        self.found = Examined(home.folder)
        self.description: Description | None = None
        self.rows: pa.Table | None = None
        self.is_foreign = False
        self.to_be_embedded = False
        self.to_be_opened: list[Finding] = []
        self._home = home
        self._seen = seen
        self._repair = repair
        self._aside = SetAside(home)
        self._lines: Mapping[str, Recorded] = {}
        self._gone: set[str] = set()
        self._undeleted = 0
        self._from_earlier = 0
        self._connection: AsyncConnection

    def add_once(self, kind: Kind, what: str, remedy: str) -> None:
        """Note a finding about the memories unless it is noted already."""
        if not any(finding.what == what for finding in self.found.findings):
            self.found.add(kind, schema.MEMORIES, what, remedy)

    def interrupted_switch(self) -> Finding | None:
        """The finding that a change of models was interrupted, if it was."""
        column = self.description.pending_column if self.description else None
        if column is None or self._home.is_at_work("reindex"):
            return None
        return self.found.add(
            "reindex",
            schema.MEMORIES,
            f"the change to the model {column.model} was interrupted: recall uses the former one",
            "it is finished, or given up where that model can't be had",
        )

    async def tables(self) -> None:
        """Examine the files and the rows of all tables."""
        self._lines = read_ledger(self._home)
        self._connection = await _connect(self._home.tables)
        try:
            files = {name: self._files(name) for name in TABLES}
            if await self._is_newer(files[schema.MEMORIES]):
                return
            for name in TABLES:
                await self._table(files[name])
            self._staging()
        finally:
            self._connection.close()  # type: ignore[no-untyped-call]
        if self._repair:
            await asyncio.to_thread(self._settle)
        self.found.set_aside = self._aside.folder

    def _files(self, name: str) -> TableFiles:
        return table_files(self._home, name, self._ledger(), self._seen)

    def _ledger(self) -> dict[str, Recorded]:
        return {name: file for name, file in self._lines.items() if name not in self._gone}

    async def _is_newer(self, files: TableFiles) -> bool:
        """Whether a newer ByHeart wrote the store, which is then left alone."""
        if files.bad_manifest is not None or not files.versions:
            return False
        try:
            table = await self._connection.open_table(files.name)
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
        if not files.paths and not files.latest:
            self._absent(files)
            return
        files = await self._manifest(files)
        if files.manifest is None:
            return
        table = await self._connection.open_table(files.name)
        if files.name == schema.MEMORIES:
            await self._describe(table, files)
        damaged = files.damaged_data()
        data = self._damaged_data(files) if damaged else None
        if data is not None and self._repair:
            self._put_spares(files)
            files = self._files(files.name)
            table = await self._connection.open_table(files.name)
        if files.name == schema.MEMORIES:
            await self._memories(table, files, data)
        else:
            await self._log(table, files, data)
        self._earlier_and_left_over(files.name)

    def _absent(self, files: TableFiles) -> None:
        finding = self.found.add(
            "manifest", files.name, f"the table {files.name} is missing", "it is made, empty"
        )
        self.to_be_opened.append(finding)

    async def _manifest(self, files: TableFiles) -> TableFiles:
        """See to the latest manifest, without which a table does not open."""
        reason = files.bad_manifest
        if reason is None:
            return files
        readable = files.newest_readable
        if files.spare is not None:
            what, remedy = "nothing is lost", "it is put back from its copy in the ledger"
        elif readable is not None:
            since = f"{readable.made:%Y-%m-%d %H:%M:%S} UTC" if readable.made else "it"
            what = f"what was written after {since} can't be read"
            remedy = f"version {readable.version} takes its place; all files are kept in set-aside"
        elif files.name != schema.MEMORIES:
            what = f"the {files.name} can't be read; no memory is affected"
            remedy = "the table is set aside whole and made anew, empty"
        else:
            what = "no version of the memories can be read; their files are left as they are"
            remedy = "bring back a backup: byheart restore FILE --replace"
        finding = self.found.add(
            "manifest",
            files.name,
            f"the latest manifest (version {files.latest}) is {reason}: {what}",
            remedy,
        )
        if not self._repair:
            return files
        if files.spare is not None:
            self._put_back(files, files.spare)
        elif readable is not None:
            await self._return_to(files, readable.version)
        elif files.name != schema.MEMORIES:
            self._aside.move(files.folder, "no version of it can be read")
            self._gone |= {name for name in self._lines if name.startswith(files.folder.name)}
            self.to_be_opened.append(finding)
            return files
        else:
            return files
        finding.mended = True
        return self._files(files.name)

    def _put_back(self, files: TableFiles, spare: Path) -> None:
        self._move(files, f"{VERSIONS}/{spare.name}", "a damaged manifest", keep_line=True)
        folder = files.folder / VERSIONS
        folder.mkdir(exist_ok=True)
        replace_bytes(folder / spare.name, spare.read_bytes())
        self._seen.forget(folder / spare.name)
        sync_folder(folder)

    async def _return_to(self, files: TableFiles, version: int) -> None:
        """Make an earlier version the latest, under a number that no process has seen."""
        for name in self._ledger():
            short = name.removeprefix(f"{files.folder.name}/")
            if short != name and (version_of(Path(short).name) or 0) > version:
                self._gone.add(name)
        for later, name in files.paths.items():
            if later > version:
                self._move(files, name, "a damaged manifest")
        self._forget_lines()
        (files.folder / VERSIONS / "latest_version_hint.json").unlink(missing_ok=True)
        table = await self._connection.open_table(files.name)
        while await table.version() <= files.latest:
            await table.checkout(await table.version())
            await table.restore()

    def _move(self, files: TableFiles, name: str, why: str, *, keep_line: bool = False) -> None:
        path = files.folder / name
        if not keep_line:
            self._gone.add(f"{files.folder.name}/{name}")
        if path.exists():
            self._aside.move(path, why)
        self._seen.forget(path)

    async def _describe(self, table: AsyncTable, files: TableFiles) -> None:
        try:
            self.description = schema.description_of(await table.schema())
        except (ValueError, KeyError, TypeError, AttributeError):
            await self._describe_anew(table, files)

    async def _describe_anew(self, table: AsyncTable, files: TableFiles) -> None:
        description = await self._described_earlier(files)
        if description is None:
            description = _description_from(await table.schema(), self._home)
        finding = self.found.add(
            "description",
            files.name,
            "the description of the store can't be read: it does not open",
            "it is made anew of the columns that are there"
            if description
            else "no model here has made the vectors; bring back a backup: byheart restore FILE",
        )
        self.description = description
        if description is None or not self._repair:
            return
        await table.update_field_metadata(
            {
                "path": schema.DESCRIBED_FIELD,
                "metadata": {schema.DESCRIPTION_KEY: description.to_json()},
            }
        )
        finding.mended = True

    async def _described_earlier(self, files: TableFiles) -> Description | None:
        async for version in self._earlier(files):
            layout = await version.schema()
            try:
                description = schema.description_of(layout)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            described = {column.column for column in description.columns}
            if described <= set(layout.names):
                return description
        return None

    async def _earlier(self, files: TableFiles) -> AsyncIterator[AsyncTable]:
        """The earlier versions that can be read, newest first."""
        broken = set(files.broken_versions())
        versions = sorted((one for one in files.versions if one not in broken), reverse=True)
        for version in versions[:EARLIER_VERSIONS_TRIED]:
            if version == files.latest:
                continue
            table = await self._connection.open_table(files.name)
            await table.checkout(version)
            yield table

    def _damaged_data(self, files: TableFiles) -> Finding:
        damaged = files.damaged_data()
        names = ", ".join(f"{name} ({reason})" for name, reason in list(damaged.items())[:3])
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        return self.found.add("data", files.name, f"damaged: {names}{more}", "")

    def _put_spares(self, files: TableFiles) -> None:
        """Deletions come back from the ledger, or rows that were deleted do."""
        for name, reason in files.damaged_data().items():
            if not name.startswith("_deletions/"):
                continue
            spare = spare_of(self._home, files, name, self._lines)
            content = spare.read_bytes() if spare else no_deletions()
            if spare is None:
                self._undeleted += files.deleted_by(name)
                self._seen.substitutes.add(files.folder / name)
            self._move(files, name, f"{reason} file of deleted rows", keep_line=spare is not None)
            (files.folder / name).parent.mkdir(exist_ok=True)
            replace_bytes(files.folder / name, content)
            self._seen.forget(files.folder / name)

    async def _memories(self, table: AsyncTable, files: TableFiles, data: Finding | None) -> None:
        read, data = await self._read(table, files, data)
        if read is None:
            return
        checked = check_rows(read.sound)
        self.found.memories = checked.memories
        findings = self._row_findings(checked)
        if data is not None or findings:
            await self._rebuild(table, files, read, checked, data, findings)
        else:
            self.rows = read.sound
        await self._index(table, files, rebuilt=self._repair and bool(data or findings))

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
        data = data or self.found.add(
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
                found.append(self.found.add(kind, schema.MEMORIES, text, remedy))  # type: ignore[arg-type]
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
        self.found.recovered = tuple(sorted(rebuilt.recovered))
        self.found.lost = tuple(sorted(rebuilt.lost))
        before = files.manifest.rows if files.manifest else 0
        self.found.lost_rows = max(0, before - len(rows))
        if data is None:
            self.found.lost_rows += rebuilt.missing
        self.found.memories = sum(number == 0 for number in rows.column("passage").to_pylist())
        if data is not None:
            data.remedy = self._what_is_saved(len(rebuilt.recovered))
        self.rows = rows
        if not self._repair:
            return
        if rebuilt.remains:
            self._aside.keep_rows(
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
        versions = [one async for one in self._earlier(files)]
        earlier = await read_earlier(versions, read, set(rebuilt.lost))
        if earlier is None:
            return rebuilt
        self._from_earlier = len(earlier)
        read = read.with_earlier(earlier)
        again = rebuild(read, check_rows(read.sound), await table.schema())
        again.recovered += sorted(set(earlier.column("id").to_pylist()) - set(again.recovered))
        return again

    def _what_is_saved(self, recovered: int) -> str:
        lost = self.found.lost_rows
        parts = [f"{self.found.memories:,} memories are kept"]
        if recovered:
            parts.append(
                f"{recovered:,} of them read from damaged files or earlier versions, "
                "their texts verified, their ids, times and tags can't be"
            )
        named = f", among them of {len(self.found.lost)} known by id" if self.found.lost else ""
        if self._from_earlier:
            parts.append(f"{self._from_earlier:,} passages come from an earlier version")
        parts.append(f"{lost:,} passages are lost{named}" if lost else "none is lost")
        if lost:
            parts.append("a backup may still hold them: byheart restore FILE --replace")
        if self._undeleted:
            parts.append(
                f"up to {self._undeleted:,} forgotten passages are back: forget them again"
            )
        return "; ".join(parts)

    async def _log(self, table: AsyncTable, files: TableFiles, data: Finding | None) -> None:
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
        if self._repair:
            await table.add(kept, mode="overwrite")
            data.mended = True

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
        if self._repair:
            await indexes.renew(table)
            finding.mended = True

    def _earlier_and_left_over(self, name: str) -> None:
        """See to versions that recall uses no more, and to files that none uses."""
        files = self._files(name)
        broken = files.broken_versions() if files.manifest else []
        left_over, past = files.left_over(), files.damaged_transactions()
        if not self._accounts_for(files):
            self._note_unneeded(files, len(broken), len(left_over), len(past))
        if self._repair and (broken or left_over or past):
            self._put_away(files, broken)

    def _note_unneeded(self, files: TableFiles, broken: int, left_over: int, past: int) -> None:
        if broken:
            what = f"{broken:,} earlier versions can't be read; no memory is affected"
            finding = self.found.add("earlier version", files.name, what, "they are set aside")
            finding.mended = self._repair
        if left_over:
            what = f"{left_over:,} files belong to no version: an unfinished write has left them"
            finding = self.found.add("orphan", files.name, what, "they are set aside")
            finding.mended = self._repair
        if past:
            what = f"{past:,} records of past writes are damaged; no memory is affected"
            finding = self.found.add("orphan", files.name, what, "they are set aside")
            finding.mended = self._repair

    def _accounts_for(self, files: TableFiles) -> bool:
        """Whether other findings explain what is broken and left over in this table."""
        return any(
            finding.where == files.name and finding.kind in ("data", "manifest", "index")
            for finding in self.found.findings
        )

    def _put_away(self, files: TableFiles, broken: list[int]) -> None:
        # Only what is safe on the disk may take the place of what is moved away.
        self._settle()
        for version in broken:
            self._move(files, files.paths[version], "an earlier version that can't be read")
        files = self._files(files.name) if broken else files
        for name in files.left_over():
            reason = files.damaged.get(name)
            self._move(files, name, f"{reason} file" if reason else "no version needs it")
        needed = {one for version in files.versions.values() for one in version.sizes()}
        for name in files.damaged.keys() - needed:
            self._move(files, name, f"{files.damaged[name]} file")

    def _staging(self) -> None:
        folder = self._home.staging
        if not folder.exists() or self._home.is_at_work("backup"):
            return
        finding = self.found.add(
            "orphan",
            STAGING,
            "an unfinished backup or restore has left files",
            "they are set aside",
        )
        if self._repair:
            self._aside.move(folder, "left over from an unfinished backup or restore")
            finding.mended = True

    def _settle(self) -> None:
        self._forget_lines()
        Ledger(self._home, durable=True).settle()

    def _forget_lines(self) -> None:
        """Strike what was set aside from the ledger, so that its names may come again."""
        if not self._gone or not self._home.digests.exists():
            return
        lines = [f"{at.digest} {at.size} {name}\n" for name, at in self._ledger().items()]
        replace_bytes(self._home.digests, "".join(lines).encode())
        self._lines = self._ledger()
        self._gone.clear()


async def _connect(database: Path) -> AsyncConnection:
    import lancedb

    # Nothing is cached: what a file says now is what counts.
    return await lancedb.connect_async(
        str(database),
        read_consistency_interval=timedelta(0),
        session=lancedb.Session(index_cache_size_bytes=0, metadata_cache_size_bytes=0),
    )


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


def _description_from(layout: pa.Schema, home: Home) -> Description | None:
    """What the columns tell, where the embedded model has made the vectors or there are none."""
    from byheart_store.models.loading import load_encoder

    vectors = [one for one in layout if one.name.startswith(VECTOR_PREFIX)]
    number = 3 if "client" in layout.names else 1 if "context" in layout.names else 2
    description = Description(format=number)
    if not vectors:
        return description
    encoder = load_encoder(None, cache_dir=home.downloads)
    column = schema.vector_column(encoder.name, encoder.fingerprint, encoder.dimension)
    if column.column not in [one.name for one in vectors]:
        return None
    return replace(description, active=column.column, columns=(column,))
