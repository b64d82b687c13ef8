"""Forgetting, and purging what forgotten memories have left behind.

What is forgotten is gone from every answer at once. Its bytes stay in old files for a while, as in
any store that never changes a file: a purge writes everything anew and deletes the old files.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from byheart_store.errors import StoreUnavailable
from byheart_store.home import BENCHMARKS, SET_ASIDE, STAGING, TRAINING, Home, Work
from byheart_store.moments import now
from byheart_store.recall.journal import Journal
from byheart_store.records import Purged
from byheart_store.tables import indexes, schema
from byheart_store.tables.database import Database
from byheart_store.tables.filters import listed, quoted
from byheart_store.tables.ledger import sync_folder
from byheart_store.tables.maintenance import Maintenance
from byheart_store.tables.rows import CONVERSATION_ORDER, SEARCH_COLUMNS, searched_anew
from byheart_store.tables.schema import ROW_KEY, SEARCHED

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable

IDS_PER_DELETE = 1_000
SESSIONS_AT_ONCE = 50

HIT_LISTS = ("ids", "namespaces", "relevances", "scores")
LIKELY = 0.5

INDEXED = "the indexes are being made just now; nothing was purged; try again in a minute"

NO_TIME = timedelta(milliseconds=1)

LEFTOVERS: Mapping[str, Work | None] = {BENCHMARKS: None, TRAINING: "retrain", STAGING: "backup"}
"""Folders of a home that may hold texts of memories, and the lock of whoever is at work there."""


class Eraser:
    """Deletes memories, and what speaks of them."""

    def __init__(self, database: Database, maintenance: Maintenance, journal: Journal) -> None:
        """The eraser of one open store."""
        self._database = database
        self._maintenance = maintenance
        self._journal = journal

    async def matching(self, predicate: str) -> list[str]:
        """The ids of the memories that a predicate admits."""
        return [row["id"] for row in await self._matching(predicate)]

    async def forget(self, predicate: str) -> list[str]:
        """Delete the memories that a predicate admits, and return their ids.

        A crash in its middle leaves memories that are not forgotten yet, whole.
        """
        return await self._database.write(lambda: self._forget(predicate))

    async def _forget(self, predicate: str) -> list[str]:
        found = await self._matching(predicate)
        ids = [row["id"] for row in found]
        if not ids:
            return []
        await self._note_when()
        await self._take_from_neighbours(found)
        for some in _batches(ids, IDS_PER_DELETE):
            # In this order a crash leaves a memory without labels, never labels without a memory.
            await self._journal.forget(some)
            await self._database.delete(self._database.memories, f"id IN {listed(some)}")
        return ids

    async def _matching(self, predicate: str) -> list[dict[str, Any]]:
        query = self._database.memories.query().where(f"passage = 0 AND ({predicate})")
        rows: list[dict[str, Any]] = await query.select(["id", "namespace", "session"]).to_list()
        return rows

    async def _note_when(self) -> None:
        description = await self._database.describe()
        if description.forgotten_since is None:
            await self._database.redescribe(replace(description, forgotten_since=now()))

    async def _take_from_neighbours(self, forgotten: Iterable[dict[str, Any]]) -> None:
        """Turns are searched with those before them, which no longer say what is forgotten."""
        rows = list(forgotten)
        gone = {row["id"] for row in rows}
        sessions = sorted({(row["namespace"], row["session"]) for row in rows if row["session"]})
        for some in _batches(sessions, SESSIONS_AT_ONCE):
            await self._search_anew(some, gone)

    async def _search_anew(self, sessions: Sequence[tuple[str, str]], gone: set[str]) -> None:
        among = " OR ".join(
            f"(namespace = {quoted(namespace)} AND session = {quoted(session)})"
            for namespace, session in sessions
        )
        columns = [*SEARCH_COLUMNS, SEARCHED]
        found = await self._database.memories.query().where(among).select(columns).to_arrow()
        ordered = found.sort_by([(name, "ascending") for name in CONVERSATION_ORDER]).to_pylist()
        kept = [row for row in ordered if row["id"] not in gone]
        changed = [
            {"id": row["id"], "passage": row["passage"], SEARCHED: text}
            for row, text in searched_anew(kept)
            if text != row[SEARCHED]
        ]
        if changed:
            fields = [found.schema.field(name) for name in (*ROW_KEY, SEARCHED)]
            update = _table(changed, fields)
            await self._database.update(self._database.memories, ROW_KEY, update)

    async def purge(self) -> Purged:
        """Leave no byte of what was forgotten: in the log, old files, indexes and caches.

        Recalls that found a forgotten memory first, or likely to answer, go whole with the labels
        made of them: their questions may repeat what it said. Files that a training or a backup
        under way is using stay, and so does what was set aside; both are named.

        Raises:
            StoreUnavailable: the files are not this program's to delete.
        """
        if self._database.location.is_service:
            raise StoreUnavailable(
                f"{self._database.location.address} keeps and deletes its own files, so they can't "
                "be purged from here; what was forgotten is in no answer, and how long old "
                "versions are kept is set in the service"
            )
        await self._journal.close()
        self._journal.give_up()  # logged later, it would tell of what is gone
        # An index that is being made of what is there now would be kept.
        async with self._database.exclusively("index", INDEXED):
            return await self._database.write(self._purge)

    async def _purge(self) -> Purged:
        recalls, labels = await self._forget_questions()
        tables = (self._database.memories, self._database.recalls, self._database.labels)
        for table in tables:
            await _write_anew(table)
        for table in tables:
            await self._maintenance.tidy(table, NO_TIME, orphans=True)
        kept = await asyncio.to_thread(_clear, self._database.home)
        if not kept:
            description = await self._database.describe()
            await self._database.redescribe(replace(description, forgotten_since=None))
        # What nobody could explain, or a whole former store, is not to be deleted by the way.
        aside = [SET_ASIDE] if (self._database.home.folder / SET_ASIDE).exists() else []
        return Purged(recalls=recalls, labels=labels, kept=(*kept, *aside))

    async def _forget_questions(self) -> tuple[int, int]:
        """Delete the recalls that were about what is gone, with their labels; else strike it."""
        kept = set(await self.matching("true"))
        recalls, labels = self._database.recalls, self._database.labels
        logged = await recalls.query().select(["recall_id", *HIT_LISTS]).to_list()
        touched = [row for row in logged if not kept.issuperset(row["ids"])]
        about = {row["recall_id"] for row in touched if _was_about(row, kept)}
        struck = [_struck(row, kept) for row in touched if row["recall_id"] not in about]
        if struck:
            layout = schema.recalls_schema()
            fields = [layout.field(name) for name in ("recall_id", *HIT_LISTS)]
            await self._database.update(recalls, ["recall_id"], _table(struck, fields))
        judged = await labels.query().select(["memory_id", "recall_id"]).to_list()
        strangers = {row["memory_id"] for row in judged} - kept
        counts = [
            await self._delete(labels, "memory_id", strangers),
            await self._delete(labels, "recall_id", {row["recall_id"] for row in judged} & about),
        ]
        return await self._delete(recalls, "recall_id", about), sum(counts)

    async def _delete(self, table: AsyncTable, column: str, values: Iterable[str]) -> int:
        before = await table.count_rows()
        for some in _batches(sorted(values), IDS_PER_DELETE):
            await self._database.delete(table, f"{column} IN {listed(some)}")
        return before - await table.count_rows()


def _was_about(row: Mapping[str, Any], kept: Container[str]) -> bool:
    """Whether a logged recall found a memory that is gone first, or thought it likely to answer."""
    found = zip(row["ids"], row["relevances"], strict=True)
    return any(
        name not in kept and (rank == 0 or relevance >= LIKELY)
        for rank, (name, relevance) in enumerate(found)
    )


def _struck(row: Mapping[str, Any], kept: Container[str]) -> dict[str, Any]:
    """A logged recall without the hits that are gone."""
    ranks = [rank for rank, name in enumerate(row["ids"]) if name in kept]
    return {name: [row[name][rank] for rank in ranks] for name in HIT_LISTS} | {
        "recall_id": row["recall_id"]
    }


def _table(rows: list[dict[str, Any]], fields: list[pa.Field]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


async def _write_anew(table: AsyncTable) -> None:
    """Move every row into new files: deleted rows stay behind, and so does the old index."""
    columns = (await table.schema()).names
    if await table.count_rows():
        await table.update(updates_sql={columns[0]: columns[0]})
    if table.name == schema.MEMORIES:
        await indexes.renew(table)


def _clear(home: Home) -> list[str]:
    """Delete what may be made again, or was never finished; returns the folders in use."""
    kept = []
    for name, work in LEFTOVERS.items():
        folder = home.folder / name
        if work is not None and home.is_at_work(work):
            kept.append(name)
        elif folder.exists():
            shutil.rmtree(folder)
            sync_folder(folder.parent)
    return kept


def _batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
