"""The store's tables behind one write lock: opening, describing, writing, compacting."""

from __future__ import annotations

import asyncio
import errno
import importlib
import logging
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from byheart_store.errors import ByHeartError, StoreBusy, StoreUnavailable
from byheart_store.home import Home, Work
from byheart_store.records import Durability
from byheart_store.tables import indexes, migrations, schema
from byheart_store.tables.lease import DURATION, Lease
from byheart_store.tables.ledger import Ledger, read_ledger
from byheart_store.tables.location import Location
from byheart_store.tables.lock import WriteLock, shielded
from byheart_store.tables.schema import Description

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb import AsyncConnection
    from lancedb.table import AsyncTable

T = TypeVar("T")

logger = logging.getLogger(__name__)

_OVERTAKEN = re.compile(r"conflict|not found", re.IGNORECASE)
_PLACE_IN_ENGINE = re.compile(r", \S+\.rs:\d+:\d+$")
_SYSTEM_ERROR = re.compile(r"\(os error (\d{1,9})\)")
_NO_ROOM = (
    {39, 112}  # ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL
    if os.name == "nt"
    else {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
)

_REFUSALS = ("permission denied", "read-only file system", "not permitted")

COMMITS_BETWEEN_COMPACTIONS = 64
"""Each commit adds a fragment, and each fragment slows every query down."""

ROWS_BETWEEN_COMPACTIONS = 4_096
"""Words of rows that no index holds yet are searched one row after the other."""

ROWS_LEFT_UNINDEXED = 16
"""So few rows that no index holds cost a query less than bringing the indexes up to date."""

WRITING: Work = "write"
"""The name of the write lock: of its file, or of its lease."""

LONGEST_SILENCE = 1.5 * DURATION
"""Seconds after which the lease of whoever died can be taken."""

QUIET_AFTER_WRITES = 1.0
"""Seconds without a write after which the rows of a burst are indexed."""

FOR_EVER = timedelta(days=36_500)

OLD_VERSIONS_KEPT = timedelta(seconds=5)
"""Long enough for any read that began on an old version to end."""


class Database:
    """Three tables in one LanceDB database. Reads see every process's commits at once."""

    def __init__(
        self,
        home: Home,
        location: Location,
        connection: AsyncConnection,
        lock: WriteLock,
        ledger: Ledger | None,
    ) -> None:
        """Not to be called; see `open`."""
        self.home = home
        self.location = location
        self._connection = connection
        self._lock = lock
        self._ledger = ledger
        self._commits: Counter[str] = Counter()
        self._rows_to_index = 0
        self._when_quiet: asyncio.TimerHandle | None = None
        self._sweeps: dict[str, asyncio.TimerHandle] = {}
        self._compactions: set[asyncio.Task[None]] = set()
        self._tried: str | None = None
        self._description: tuple[int, Description] | None = None
        self._visible: int | None = None
        self.memories: AsyncTable
        self.recalls: AsyncTable
        self.labels: AsyncTable

    @classmethod
    async def open(
        cls, home: Path, uri: str | None, patience: float, durability: Durability = "fsync"
    ) -> Database:
        """Connect, create what is missing and migrate what is old.

        An object store or a database server sees to the durability of what lies at a `uri`.

        Raises:
            StoreUnavailable: the home can't be used, or a newer version of ByHeart wrote it.
            StoreBusy: the store has to be created or migrated and others keep the lock.
        """
        await asyncio.to_thread(importlib.import_module, "lancedb")
        at = Home(_usable_folder(home))
        location = Location.of(at, uri)
        with storage_errors(location.address):
            connection = await location.connect()
        lock = WriteLock(_writers_apart(at, location), patience)
        durable = durability == "fsync"
        ledger = Ledger(at, durable=durable) if location.is_disk else None
        database = cls(at, location, connection, lock, ledger)
        await database._open_tables()
        return database

    @asynccontextmanager
    async def exclusively(self, work: Work, busy: str) -> AsyncIterator[None]:
        """Do a long piece of work that only one process at a time may do, on any host.

        Raises:
            StoreBusy: another one is at it; the message is `busy`.
        """
        if not self.location.is_bucket:
            with self.home.exclusively(work, busy):
                yield
            return
        lease = Lease(self.location, work)
        try:
            await lease.acquire(LONGEST_SILENCE)
        except TimeoutError:
            raise StoreBusy(busy) from None
        try:
            yield
        finally:
            await lease.release()

    def try_out(self, model: str) -> None:
        """From now on nothing is written, and the store is seen as if this model were active."""
        self._tried = model

    async def close(self) -> None:
        """Wait for running compactions, and index what a larger import has left."""
        self._cancel_timers()
        if self._rows_to_index >= ROWS_LEFT_UNINDEXED:
            self._start_compaction(self.memories, overdue=True)
        while self._compactions:
            await asyncio.wait(self._compactions)
            self._cancel_timers()
        self._connection.close()  # type: ignore[no-untyped-call]

    def _cancel_timers(self) -> None:
        for timer in (self._when_quiet, *self._sweeps.values()):
            if timer is not None:
                timer.cancel()

    async def _open_tables(self) -> None:
        with storage_errors(self.location.address):
            names = set((await self._connection.list_tables()).tables)
            missing = {schema.MEMORIES, schema.RECALLS, schema.LABELS} - names
            if missing:
                await asyncio.to_thread(self._check_never_made, missing)
                if self.location.spans_hosts and schema.MEMORIES in names:
                    raise self._gone(missing)  # it is made last of all
                if self.location.is_bucket:
                    await Lease(self.location, WRITING).check_honoured()
                await self.write(self._create_tables)
            self.memories = await self._connection.open_table(schema.MEMORIES)
            self.recalls = await self._connection.open_table(schema.RECALLS)
            self.labels = await self._connection.open_table(schema.LABELS)
            await self._bring_up_to_date()

    def _check_never_made(self, tables: Collection[str]) -> None:
        """A table that was there and is gone must not look like one that is empty."""
        known = read_ledger(self.home) if self._ledger is not None else {}
        gone = [
            name for name in sorted(tables) if any(f.startswith(f"{name}.lance/") for f in known)
        ]
        if gone:
            raise self._gone(gone)

    def _gone(self, tables: Collection[str]) -> StoreUnavailable:
        advice = (
            "look, and mend what can be: byheart doctor; or bring it back: "
            "byheart restore FILE --replace"
            if self.location.is_disk
            else "bring it back from the versions that are kept there, or name another place"
        )
        named = ", ".join(sorted(tables))
        return StoreUnavailable(f"the table {named} of {self.location.address} is gone; {advice}")

    async def _create_tables(self) -> None:
        names = set((await self._connection.list_tables()).tables)
        if schema.RECALLS not in names:
            await self._connection.create_table(schema.RECALLS, schema=schema.recalls_schema())
        if schema.LABELS not in names:
            await self._connection.create_table(schema.LABELS, schema=schema.labels_schema())
        if schema.MEMORIES not in names:
            layout = schema.described(schema.memories_schema(), Description())
            memories = await self._connection.create_table(schema.MEMORIES, schema=layout)
            await schema.create_text_index(memories)

    async def _bring_up_to_date(self) -> None:
        description = await self.describe()
        if description.format > schema.FORMAT:
            raise StoreUnavailable(
                f"{self.location.address} has format {description.format}, this ByHeart reads up "
                f"to {schema.FORMAT}; upgrade it: pip install -U byheart"
            )
        if description.format < schema.FORMAT:
            await self.write(self._migrate)
        if not await schema.has_text_index(self.memories):
            await self.write(lambda: schema.create_text_index(self.memories))

    async def _migrate(self) -> None:
        description = await self.describe()
        for number in range(description.format, schema.FORMAT):
            await migrations.FROM_FORMAT[number](self.memories, self.recalls, self.labels)
            description = await self.describe()
            await self.redescribe(description.at_format(number + 1))

    async def memories_at(self, version: int) -> AsyncTable:
        """A handle of its own on one version of the memories, which no later commit moves."""
        table = await self._connection.open_table(schema.MEMORIES)
        try:
            await table.checkout(version)
        except ValueError as error:  # others have deleted it; the latest one is there
            raise RuntimeError(str(error)) from error
        return table

    async def describe(self) -> Description:
        """The description as of the latest commit of any process.

        Raises:
            InvalidInput: a model is tried out that the store holds no vectors of.
        """
        _, description = await self.described()
        return description

    async def described(self) -> tuple[int, Description]:
        """The latest version of any process, and its description, as `describe` gives it."""
        version, description = await self._written()
        if self._tried is not None:
            description = replace(description, active=description.of_model(self._tried).column)
        return version, description

    async def _written(self) -> tuple[int, Description]:
        """Read once a version: every remember and every recall asks for it."""
        version = await self.memories.version()
        if self._description is None or self._description[0] != version:
            # It may come from a later commit already, and is read again with the next version.
            description = schema.description_of(await self.memories.schema())
            self._description = version, description
        return self._description

    async def redescribe(self, description: Description) -> None:
        """Write the description in one commit. To be called inside `write`."""
        self._lock.check()
        await self.memories.update_field_metadata(
            {
                "path": schema.DESCRIBED_FIELD,
                "metadata": {schema.DESCRIPTION_KEY: description.to_json()},
            }
        )

    @asynccontextmanager
    async def _moving_rows(self) -> AsyncIterator[None]:
        """Show the memories as they are before what follows, inside `write`, until it ends.

        It changes nothing that recall finds, but moves rows, and for a while no index holds them.
        """
        self._visible = await self.memories.version()
        try:
            yield
        finally:
            self._visible = None

    def visible_version(self, version: int) -> int:
        """The version to read for what the memories are in this one."""
        if self._visible is None:
            return version
        try:
            self._lock.check()
        except StoreBusy:
            return version  # who has taken it over may have written something new
        return min(version, self._visible)

    async def write(
        self, change: Callable[[], Awaitable[T]], tables: Collection[str] | None = None
    ) -> T:
        """Run `change` under the write lock, to its end even if the caller is cancelled.

        It changes these `tables` alone, where they are named.

        Raises:
            StoreBusy: another process kept the lock for too long.
            StoreUnavailable: the disk refused the write, or a model is only tried out.
        """
        if self._tried is not None:
            raise StoreUnavailable(
                f"a trial of {self._tried} is read-only: nothing was changed; "
                "open the store without the trial to write"
            )
        return await shielded(self._locked(change, tables))

    async def _locked(
        self, change: Callable[[], Awaitable[T]], tables: Collection[str] | None
    ) -> T:
        with storage_errors(self.location.address):
            async with self._lock.held():
                try:
                    return await change()
                finally:
                    await self._settle(tables)

    async def _settle(self, tables: Collection[str] | None = None) -> None:
        """Make durable what was committed, by this process or by one that was killed in time."""
        if self._ledger is not None:
            await asyncio.to_thread(self._ledger.settle, tables)

    async def add(self, table: AsyncTable, rows: pa.Table) -> int:
        """Append rows in one commit inside `write`, and return the version that it made."""
        self._lock.check()
        version: int = (await table.add(rows)).version
        if table.name == schema.MEMORIES and self._description is not None:
            before, description = self._description
            if before == version - 1:  # new rows leave the description as it was
                self._description = version, description
        self._committed(table, rows.num_rows)
        return version

    async def merge(self, table: AsyncTable, keys: list[str], rows: pa.Table) -> int:
        """Update the rows whose keys exist and insert the others, as `add` does."""
        self._lock.check()
        merge = table.merge_insert(keys).when_matched_update_all().when_not_matched_insert_all()
        version: int = (await merge.execute(rows)).version
        self._committed(table)
        return version

    async def update(self, table: AsyncTable, keys: list[str], rows: pa.Table) -> None:
        """Update only the columns given of the rows that still exist, inside `write`."""
        self._lock.check()
        await table.merge_insert(keys).when_matched_update_all().execute(rows)
        self._committed(table)

    async def delete(self, table: AsyncTable, predicate: str) -> None:
        """Delete rows in one commit. To be called inside `write`."""
        self._lock.check()
        await table.delete(predicate)
        self._committed(table)

    def _committed(self, table: AsyncTable, new_rows: int = 0) -> None:
        if self.location.is_service:
            return  # fragments and indexes are its own concern
        if table.name == schema.MEMORIES:
            self._rows_to_index += new_rows
        # The first commit looks too, so that a thousand short-lived processes compact as well;
        # later ones know of so many versions, even where deletes have left few fragments.
        if self._rows_to_index >= ROWS_BETWEEN_COMPACTIONS:
            self._start_compaction(self.memories, overdue=True)
        elif self._commits[table.name] % COMMITS_BETWEEN_COMPACTIONS == 0:
            self._start_compaction(table, overdue=self._commits[table.name] > 0)
        if self._rows_to_index >= ROWS_LEFT_UNINDEXED:
            self._index_when_quiet()
        self._commits[table.name] += 1

    def _index_when_quiet(self) -> None:
        if self._when_quiet is not None:
            self._when_quiet.cancel()
        self._when_quiet = asyncio.get_running_loop().call_later(
            QUIET_AFTER_WRITES, lambda: self._start_compaction(self.memories, overdue=True)
        )

    def _start_compaction(self, table: AsyncTable, *, overdue: bool) -> None:
        if overdue and table.name == schema.MEMORIES:
            self._rows_to_index = 0
            if self._when_quiet is not None:
                self._when_quiet.cancel()
                self._when_quiet = None
        self._begin(self._compact_fragmented(table, overdue=overdue))

    def _begin(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore)
        self._compactions.add(task)
        task.add_done_callback(self._compactions.discard)

    async def _compact_fragmented(self, table: AsyncTable, *, overdue: bool) -> None:
        with self._putting_off(table):
            if overdue or await _fragments(table) >= COMMITS_BETWEEN_COMPACTIONS:
                await self.compact(table)
                self._sweep_later(table)

    def _sweep_later(self, table: AsyncTable) -> None:
        """Delete in time what a compaction leaves to those who are still reading it."""
        if table.name in self._sweeps:
            self._sweeps[table.name].cancel()
        self._sweeps[table.name] = asyncio.get_running_loop().call_later(
            2 * OLD_VERSIONS_KEPT.total_seconds(), lambda: self._begin(self._sweep(table))
        )

    async def _sweep(self, table: AsyncTable) -> None:
        with self._putting_off(table):
            await self.write(lambda: self.tidy(table, OLD_VERSIONS_KEPT))

    @contextmanager
    def _putting_off(self, table: AsyncTable) -> Iterator[None]:
        try:
            with storage_errors(self.location.address):
                yield
        except ByHeartError as error:
            logger.info("compaction of %s is put off: %s", table.name, error)

    async def compact(self, table: AsyncTable) -> None:
        """Merge fragments, bring indexes up to date and drop old versions, under the lock."""
        await self.write(lambda: self.tidy(table, OLD_VERSIONS_KEPT))
        if table.name == schema.MEMORIES:
            await self.index()

    async def index(self) -> None:
        """Make the indexes that the memories have grown to want, while others read and write.

        What can't be made for now, since others do or have written what it would hold, is left to
        the next compaction.
        """
        if self.location.is_service or not await self._unindexed():
            return
        try:
            async with self.exclusively("index", "another process is making the indexes"):
                for column in await self._unindexed():
                    await indexes.create(self.memories, column)
        except StoreBusy as error:
            logger.info("no index for now: %s", error)
        except RuntimeError as error:
            if not _OVERTAKEN.search(str(error)):
                raise
            logger.info("no index for now: %s", error)
        await self.write(_nothing)  # its end makes durable what was committed

    def _is_being_indexed(self) -> bool:
        return self.location.is_disk and self.home.is_at_work("index")

    async def _unindexed(self) -> list[str]:
        return await indexes.wanted(self.memories, await self.describe())

    async def tidy(
        self,
        table: AsyncTable,
        keep: timedelta,
        *,
        orphans: bool = False,
        after: Awaitable[None] | None = None,
    ) -> None:
        """Merge fragments, bring indexes up to date, drop versions older than that, inside `write`.

        While an index is being made of the fragments there are, they stay as they are.

        With `orphans`, what crashed writes have left behind is deleted too. `after` is a change
        that recall does not see but by the rows that it moves, which no index holds then. A
        database service does all that by itself, but for the change.
        """
        if self.location.is_service:
            if after is not None:
                await after
            return
        async with self._moving_rows():
            if after is not None:
                await after
            if not orphans and await asyncio.to_thread(self._is_being_indexed):
                return
            self._lock.check()
            await table.optimize(cleanup_older_than=FOR_EVER)
        # Only what is safe on the disk may take the place of what is deleted.
        await self._settle()
        self._lock.check()
        await table.optimize(cleanup_older_than=keep, delete_unverified=orphans)


async def _nothing() -> None:
    """Change nothing."""


def _writers_apart(home: Home, location: Location) -> Path | Lease:
    """What keeps writers apart; servers of a database service have only their own machine's."""
    return Lease(location, WRITING) if location.is_bucket else home.lock(WRITING)


def _usable_folder(home: Path) -> Path:
    try:
        home = home.expanduser().resolve()
        home.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, ValueError) as error:
        is_file = isinstance(error, FileExistsError)
        reason = "is a file" if is_file else f"can't be created ({error})"
        raise StoreUnavailable(
            f"the home {home} {reason}; choose a folder: --home DIR or BYHEART_HOME"
        ) from error
    return home


async def _fragments(table: AsyncTable) -> int:
    stats: Any = await table.stats()  # a dict, whatever its annotation says
    count: int = stats["fragment_stats"]["num_fragments"]
    return count


@contextmanager
def storage_errors(location: str) -> Iterator[None]:
    """Turn what the disk or the engine says of a failed access into one clear line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = _PLACE_IN_ENGINE.sub("", reason)[:300]
        if _is_full(error):
            raise StoreUnavailable(
                f"the disk is full ({reason}); what was acknowledged is safe; "
                f"make room where {location} lies and try again"
            ) from error
        raise StoreUnavailable(
            f"the store at {location} can't be used: {reason}; {_advice(location, error)}"
        ) from error


def _advice(location: str, error: Exception) -> str:
    if "://" in location:
        return "check that it can be reached and what the key may do, and try again"
    if _is_refused(error):
        return "check the folder's permissions and the free space, or choose another --home"
    return "its files may be damaged; look, and mend: byheart doctor"


def _is_refused(error: Exception) -> bool:
    """Whether the system refused access, rather than the engine what it read."""
    is_engines = isinstance(error, RuntimeError) or "lance" in str(error).lower()
    return not is_engines or any(word in str(error).lower() for word in _REFUSALS)


def _is_full(error: Exception) -> bool:
    """Whether no room was left; the engine tells the system's error by its number alone."""
    numbers = {getattr(error, "errno", None), *map(int, _SYSTEM_ERROR.findall(str(error)))}
    return not numbers.isdisjoint(_NO_ROOM)
