"""The recall log and the labels that feedback makes of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ByHeartError, InvalidInput, UnknownRecall
from byheart_store.inputs import checked_name
from byheart_store.moments import now, seconds_since
from byheart_store.records import FeedbackCounts, Label, LoggedRecall
from byheart_store.scope import Scope
from byheart_store.tables import schema
from byheart_store.tables.database import Database
from byheart_store.tables.filters import listed, quoted

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

MOST_PENDING = 1_000
"""Recalls that wait for the disk or the lock to let them be logged."""

GATHERED_FOR = 0.25
"""Seconds for which recalls are gathered, so that no commit of one stands in another's way."""

LOGGED_WITHIN = 3.0
"""Seconds in which a recall of any process has reached the log, unless others write for long."""

LOGGED_ELSEWHERE_WITHIN = 20.0
"""The same for servers on several hosts, whose commits are slow and whose clocks differ."""


class Journal:
    """Appends recalls behind the answer, a batch per commit, and turns feedback into labels."""

    def __init__(self, database: Database) -> None:
        """The journal of one open database."""
        self._database = database
        self._pending: list[LoggedRecall] = []
        self._is_late = False
        self._flushing: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()

    def record(self, recall: LoggedRecall) -> None:
        """Log a recall soon: the caller's answer does not wait for the commit."""
        self._pending.append(recall)
        self._begin()

    def _begin(self) -> None:
        if self._pending and (self._flushing is None or self._flushing.done()):
            self._hurried.clear()
            self._flushing = asyncio.create_task(self._flush())

    async def close(self) -> None:
        """Commit what is pending, at once."""
        self._begin()
        self._hurried.set()
        flushing = self._flushing
        if flushing is not None:
            await asyncio.wait([flushing])  # which goes on if the caller is cancelled
            flushing.result()

    def give_up(self) -> None:
        """Let go of recalls that could not be logged."""
        self._pending.clear()

    async def _flush(self) -> None:
        while self._pending:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), GATHERED_FOR)
            batch, self._pending = self._pending, []
            try:
                await self._append(batch)
            except ByHeartError as error:
                logger.warning("%d recalls could not be logged yet: %s", len(batch), error)
                self._pending = [*batch, *self._pending][-MOST_PENDING:]
                self._is_late = True
                return
            self._is_late = False

    async def _append(self, batch: Sequence[LoggedRecall]) -> None:
        await self._database.write(partial(self._log, batch), tables=[schema.RECALLS])

    async def _log(self, batch: Sequence[LoggedRecall]) -> None:
        if self._is_late:
            # What was forgotten and purged meanwhile must not come back through the log.
            kept = await self._kept({name for recall in batch for name in recall.ids})
            batch = [recall for recall in batch if kept.issuperset(recall.ids)]
        if batch:
            await self._database.add(self._database.recalls, _recall_rows(batch))

    async def find(self, recall_id: str, scope: Scope) -> LoggedRecall:
        """The recall with this id, if the caller may know of it.

        Raises:
            UnknownRecall: no such recall was logged.
        """
        recall_id = checked_name(recall_id, "recall_id") or ""
        found = self._waiting(recall_id) or await self._logged(recall_id)
        if found is None or not scope.saw(found):
            raise UnknownRecall(
                f"no logged recall has the id {recall_id!r}; "
                "give the recall_id that a recall of this store returned"
            )
        return found

    def _waiting(self, recall_id: str) -> LoggedRecall | None:
        return next((one for one in self._pending if one.recall_id == recall_id), None)

    async def _logged(self, recall_id: str) -> LoggedRecall | None:
        """As the log has it; a recall just made by another process may be about to be logged."""
        await self.close()
        spans_hosts = self._database.location.spans_hosts
        within = LOGGED_ELSEWHERE_WITHIN if spans_hosts else LOGGED_WITHIN
        waited = 0.0
        while not (rows := await self._recalls(f"recall_id = {quoted(recall_id)}")):
            age = seconds_since(recall_id)
            if age is None or max(age, waited) >= within:
                return self._waiting(recall_id)
            await asyncio.sleep(GATHERED_FOR)
            waited += GATHERED_FOR
        return rows[0]

    async def count(self, scope: Scope) -> int:
        """The number of logged recalls that the caller may know of."""
        if scope.is_whole:
            return await self._database.recalls.count_rows()
        filters = await self._database.recalls.query().select(["filter"]).to_list()
        return sum(scope.covers_all(json.loads(row["filter"])) for row in filters)

    async def recalls(self) -> list[LoggedRecall]:
        """All logged recalls, oldest first."""
        await self.close()
        return sorted(await self._recalls(), key=lambda recall: (recall.at, recall.recall_id))

    async def _recalls(self, predicate: str | None = None) -> list[LoggedRecall]:
        query = self._database.recalls.query()
        rows = await (query.where(predicate) if predicate else query).to_list()
        return [_recall_of(row) for row in rows]

    async def feedback(
        self,
        recall_id: str,
        useful: Sequence[str],
        not_useful: Sequence[str],
        source: str,
        scope: Scope,
    ) -> FeedbackCounts:
        """Label hits of a logged recall; a later label of the same pair takes the place of it.

        Raises:
            UnknownRecall: no such recall was logged.
            InvalidInput: an id was not among the recall's hits, or stands on both sides.
        """
        recall = await self.find(recall_id, scope)
        judged = {**dict.fromkeys(useful, True), **dict.fromkeys(not_useful, False)}
        _check_judged(recall, judged, set(useful) & set(not_useful))
        await self._check_kept(list(judged))
        moment = now()
        await self.add_labels(
            Label(
                query=recall.query,
                memory_id=memory_id,
                useful=is_useful,
                namespace=recall.namespaces[recall.ids.index(memory_id)],
                source=source,
                at=moment,
                recall_id=recall_id,
            )
            for memory_id, is_useful in judged.items()
        )
        found_useful = sum(judged.values())
        return FeedbackCounts(useful=found_useful, not_useful=len(judged) - found_useful)

    async def _check_kept(self, ids: Sequence[str]) -> None:
        kept = await self._kept(ids)
        gone = [name for name in ids if name not in kept]
        if gone:
            raise InvalidInput(f"{_some(gone)}: forgotten since that recall; leave it out")

    async def _kept(self, ids: Collection[str]) -> set[str]:
        """Those of the ids whose memories are there."""
        if not ids:
            return set()
        query = self._database.memories.query().where(f"passage = 0 AND id IN {listed(ids)}")
        return {row["id"] for row in await query.select(["id"]).to_list()}

    async def add_labels(self, labels: Iterable[Label]) -> None:
        """Append labels in one commit."""
        rows = [{name: getattr(label, name) for name in label.__slots__} for label in labels]
        if rows:
            table = _table(rows, schema.labels_schema())
            add = partial(self._database.add, self._database.labels, table)
            await self._database.write(add, tables=[schema.LABELS])

    async def labels(self) -> list[Label]:
        """The latest judgement of each query and memory, oldest first."""
        rows = await self._database.labels.query().to_list()
        labels = sorted((Label(**row) for row in rows), key=lambda label: label.at)
        latest = {(label.query, label.namespace, label.memory_id): label for label in labels}
        return sorted(latest.values(), key=lambda label: label.at)

    async def forget(self, memory_ids: Sequence[str]) -> None:
        """Delete the labels of forgotten memories. To be called inside `Database.write`."""
        predicate = f"memory_id IN {listed(memory_ids)}"
        if await self._database.labels.count_rows(predicate):
            await self._database.delete(self._database.labels, predicate)


def _check_judged(recall: LoggedRecall, judged: Mapping[str, bool], both: set[str]) -> None:
    if not judged:
        raise InvalidInput("useful: name at least one hit's id, here or in not_useful")
    if both:
        raise InvalidInput(f"{_some(sorted(both))}: both useful and not useful; choose one")
    strangers = [memory_id for memory_id in judged if memory_id not in recall.ids]
    if strangers:
        raise InvalidInput(
            f"{_some(strangers)}: not among the hits of recall {recall.recall_id}; "
            f"its hits are {_some(recall.ids) or 'none'}"
        )


def _some(ids: Sequence[str], most: int = 8) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(repr(name) for name in ids[:most]) + more


def _table(rows: list[dict[str, Any]], layout: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=layout)


def _recall_rows(batch: Sequence[LoggedRecall]) -> pa.Table:
    rows = [{name: getattr(recall, name) for name in recall.__slots__} for recall in batch]
    for row in rows:
        row["filter"] = json.dumps(row["filter"], ensure_ascii=False)
    return _table(rows, schema.recalls_schema())


def _recall_of(row: dict[str, Any]) -> LoggedRecall:
    lists = ("ids", "namespaces", "relevances", "scores")
    values = row | {name: tuple(row[name]) for name in lists}
    return LoggedRecall(**values | {"filter": json.loads(row["filter"])})
