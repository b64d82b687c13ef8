"""The store's tables behind one write lock: opening, describing, writing."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from byheart_store.errors import StoreBusy, StoreUnavailable
from byheart_store.home import Home, Work
from byheart_store.records import Durability
from byheart_store.tables import migrations, schema
from byheart_store.tables.engine_errors import storage_errors
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

LONGEST_SILENCE = 1.5 * DURATION
"""Seconds after which the lease of whoever died can be taken."""


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
        self.on_commit: Callable[[AsyncTable, int], None] = _ignore
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
        lock = WriteLock(_process_lock_of(at, location), patience)
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

    def close(self) -> None:
        """Let go of the tables."""
        self._connection.close()  # type: ignore[no-untyped-call]

    async def _open_tables(self) -> None:
        with storage_errors(self.location.address):
            names = set((await self._connection.list_tables()).tables)
            missing = {schema.MEMORIES, schema.RECALLS, schema.LABELS} - names
            if missing:
                await asyncio.to_thread(self._check_never_made, missing)
                if self.location.spans_hosts and schema.MEMORIES in names:
                    raise self._gone(missing)  # it is made last of all
                if self.location.is_bucket:
                    await Lease(self.location, "write").check_honoured()
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
        self.check_lock()
        await self.memories.update_field_metadata(
            {
                "path": schema.DESCRIBED_FIELD,
                "metadata": {schema.DESCRIPTION_KEY: description.to_json()},
            }
        )

    def check_lock(self) -> None:
        """Raises StoreBusy when the write lock was lost, so that nothing is written without it."""
        self._lock.check()

    @asynccontextmanager
    async def moving_rows(self) -> AsyncIterator[None]:
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
            self.check_lock()
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
                    await self.settle(tables)

    async def settle(self, tables: Collection[str] | None = None) -> None:
        """Make durable what was committed, by this process or by one that was killed in time."""
        if self._ledger is not None:
            await asyncio.to_thread(self._ledger.settle, tables)

    async def add(self, table: AsyncTable, rows: pa.Table) -> int:
        """Append rows in one commit inside `write`, and return the version that it made."""
        self.check_lock()
        version: int = (await table.add(rows)).version
        if table.name == schema.MEMORIES and self._description is not None:
            before, description = self._description
            if before == version - 1:  # new rows leave the description as it was
                self._description = version, description
        self.on_commit(table, rows.num_rows)
        return version

    async def merge(self, table: AsyncTable, keys: list[str], rows: pa.Table) -> int:
        """Update the rows whose keys exist and insert the others, as `add` does."""
        self.check_lock()
        merge = table.merge_insert(keys).when_matched_update_all().when_not_matched_insert_all()
        version: int = (await merge.execute(rows)).version
        self.on_commit(table, 0)
        return version

    async def update(self, table: AsyncTable, keys: list[str], rows: pa.Table) -> None:
        """Update only the columns given of the rows that still exist, inside `write`."""
        self.check_lock()
        await table.merge_insert(keys).when_matched_update_all().execute(rows)
        self.on_commit(table, 0)

    async def delete(self, table: AsyncTable, predicate: str) -> None:
        """Delete rows in one commit. To be called inside `write`."""
        self.check_lock()
        await table.delete(predicate)
        self.on_commit(table, 0)


def _ignore(_table: AsyncTable, _new_rows: int) -> None:
    """A database without maintenance."""


def _process_lock_of(home: Home, location: Location) -> Path | Lease:
    """What keeps writers apart; servers of a database service have only their own machine's."""
    return Lease(location, "write") if location.is_bucket else home.lock("write")


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
