"""A lock that spans hosts: an object in a bucket, which only its last writer may write again.

A lease is taken by a put that succeeds only if the object is still as it was seen, kept by writing
it again in time, and free once its holder says so or falls silent. Clocks of different hosts are
never compared: who waits times by its own clock how long the object has not changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

from byheart_store.errors import StoreBusy, StoreUnavailable
from byheart_store.tables.location import Location

logger = logging.getLogger(__name__)

Tag: TypeAlias = Mapping[str, str]
"""The version of an object, as a conditional put names it."""

DURATION = 10.0
"""Seconds for which a lease holds after its last renewal."""

RENEWALS = 4
"""Per duration: a lease outlives requests that fail."""

COMMIT_SHARE = 0.3
"""Of the duration, what has to be left when a commit begins: the time for it to arrive."""

LONGEST_PAUSE = 0.1
"""Seconds between two looks of whoever waits."""

LONGEST_TURN = 1.0
"""Seconds for which the writers of one process may follow each other on one lease."""

REST = 2 * LONGEST_PAUSE
"""Seconds that a process leaves to others after such a turn."""

_ABSENT = None

_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""A clock that goes on while the machine sleeps, where there is one."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The object as it was found; `holder` is None where the lease is free."""

    tag: Tag
    holder: str | None
    who: str


class Lease:
    """At most one holder at a time, of any number of processes on any hosts.

    One task of a process at a time may use it: see `WriteLock`.
    """

    def __init__(self, location: Location, name: str, duration: float = DURATION) -> None:
        """The lease of this name beside the tables; nothing is asked of the bucket yet."""
        self._location = location
        self._path = f"{name}.lease"
        self._duration = duration
        self._holder = uuid4().hex
        self._objects: Any = None
        self._tag: Tag | None = None
        self._left_free: Tag | None = None
        self._watched: tuple[Tag, float] | None = None
        self._writes = 0
        self._valid_until = 0.0
        self._since = 0.0
        self._rests_until = 0.0
        self._done = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._blocked_by = ""

    def __str__(self) -> str:
        return f"{self._location.address}/{self._path}{self._blocked_by}"

    @property
    def is_held(self) -> bool:
        """Whether this process may write: nobody else can have taken the lease yet."""
        return _now() < self._valid_until

    @property
    def may_stay(self) -> bool:
        """Whether this process may write on: others get their turn before long."""
        return self.is_held and _now() - self._since < LONGEST_TURN

    def check(self) -> None:
        """Raises StoreBusy unless a commit that begins now arrives while the lease holds."""
        if _now() + COMMIT_SHARE * self._duration >= self._valid_until:
            raise StoreBusy(
                f"the lease {self._location.address}/{self._path} was lost while writing: this "
                f"machine or the bucket was held up for {self._duration:g} s; try again"
            )

    async def acquire(self, patience: float) -> None:
        """Take the lease and keep it renewed.

        Raises:
            TimeoutError: others kept it for longer than the patience, in seconds.
            StoreUnavailable: the bucket does not answer, or refuses.
        """
        deadline = _now() + patience
        await asyncio.sleep(max(0.0, self._rests_until - _now()))
        while not await self._taken():
            left = deadline - _now()
            if left <= 0:
                raise TimeoutError
            await asyncio.sleep(min(left, random.uniform(0.2, 1) * LONGEST_PAUSE))
        self._blocked_by = ""
        self._since = _now()
        self._done.clear()
        self._renewing = asyncio.create_task(self._renew())

    async def release(self) -> None:
        """Let others take it; where the bucket does not answer it expires by itself."""
        self._done.set()
        if self._renewing is not None:
            await self._renewing
            self._renewing = None
        if self.is_held and self._tag is not None:
            with suppress(StoreUnavailable):
                if await self._put(self._tag, holder=None):
                    self._left_free = self._tag
        self._valid_until = 0.0
        if _now() - self._since >= LONGEST_TURN:
            self._rests_until = _now() + REST

    async def check_honoured(self) -> None:
        """Raises StoreUnavailable where the bucket ignores the condition of a put."""
        probe = f"{self._path}.{self._holder}"
        objects = await self._store()
        errors = _errors()
        try:
            first = _tag_of(await objects.put_async(probe, b"1", mode="create"))
            second = _tag_of(await objects.put_async(probe, b"2", mode=first))
            refused = 0
            for mode in ("create", first):
                try:
                    await objects.put_async(probe, b"3", mode=mode)
                except (errors.AlreadyExistsError, errors.PreconditionError):
                    refused += 1
            await objects.delete_async(probe)
        except errors.BaseError as error:
            raise self._location.unreachable(error) from error
        if refused < 2 or first == second:
            raise StoreUnavailable(
                f"{self._location.address} does not honour conditional puts (If-None-Match, "
                "If-Match), so two servers could overwrite each other; choose a store that does"
            )

    async def _taken(self) -> bool:
        if self._left_free is not None:
            # Nobody else may have come: that saves a look.
            tag, self._left_free = self._left_free, None
            if await self._put(tag, holder=self._holder):
                return True
        seen = await self._look()
        if seen is None:
            return await self._put(_ABSENT, holder=self._holder)
        # One's own name stands there when a put went through whose answer was lost.
        if seen.holder in (None, self._holder) or self._is_silent(seen.tag):
            return await self._put(seen.tag, holder=self._holder)
        self._blocked_by = f", held by {seen.who}"
        return False

    def _is_silent(self, tag: Tag) -> bool:
        """Whether the object has stayed as it is for the whole duration."""
        now = _now()
        if self._watched is None or self._watched[0] != tag:
            self._watched = tag, now
        return now - self._watched[1] > self._duration

    async def _renew(self) -> None:
        interval = self._duration / RENEWALS
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), interval)
            if self._done.is_set():
                return
            try:
                kept = await self._extended()
            except StoreUnavailable as error:
                logger.info("a lease could not be renewed yet: %s", error)
                kept = self.is_held
            if not kept:
                self._valid_until = 0.0
                return

    async def _extended(self) -> bool:
        if self._tag is not None and await self._put(self._tag, holder=self._holder):
            return True
        seen = await self._look()
        if seen is None or seen.holder != self._holder:
            return False
        self._tag = seen.tag  # an earlier put went through after all
        return await self._put(seen.tag, holder=self._holder)

    async def _put(self, expected: Tag | None, *, holder: str | None) -> bool:
        """Write the object if it is as expected; returns whether it was."""
        objects = await self._store()
        errors = _errors()
        self._writes += 1
        # A content of its own for each write, as tags may be digests.
        content = {
            "holder": holder,
            "who": f"process {os.getpid()} on {socket.gethostname()}",
            "write": f"{self._holder}-{self._writes}",
            "seconds": self._duration,
        }
        began = _now()
        try:
            put = await objects.put_async(
                self._path, json.dumps(content).encode(), mode=expected or "create"
            )
        except (errors.AlreadyExistsError, errors.PreconditionError):
            return False
        except (errors.NotFoundError, FileNotFoundError) as error:
            if expected is None:
                raise self._location.unreachable(error) from error
            return False
        except errors.BaseError as error:
            raise self._location.unreachable(error) from error
        self._tag = _tag_of(put)
        # Others time it from when they see it, which is later than this.
        self._valid_until = began + self._duration if holder else 0.0
        return True

    async def _look(self) -> _Seen | None:
        objects = await self._store()
        errors = _errors()
        try:
            found = await objects.get_async(self._path)
            content = json.loads(bytes(await found.bytes_async()))
        except (errors.NotFoundError, FileNotFoundError):
            return None
        except errors.BaseError as error:
            raise self._location.unreachable(error) from error
        except ValueError:
            content = {"holder": "?", "who": "another program"}
        return _Seen(_tag_of(found.meta), content.get("holder"), str(content.get("who")))

    async def _store(self) -> Any:
        if self._objects is None:
            try:
                self._objects = await asyncio.to_thread(self._location.objects)
            except _errors().BaseError as error:
                raise self._location.unreachable(error) from error
        return self._objects


def _now() -> float:
    """Seconds by this machine's own clock, which never goes back."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


def _tag_of(answer: Mapping[str, Any]) -> Tag:
    return {name: answer[name] for name in ("e_tag", "version") if answer.get(name)}


def _errors() -> Any:
    from obstore import exceptions

    return exceptions
