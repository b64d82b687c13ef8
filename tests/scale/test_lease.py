"""The lock that spans hosts: one holder at a time, whoever dies, sleeps or loses an answer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import GenericError
from obstore.store import MemoryStore as InMemory

from byheart_store import StoreUnavailable
from byheart_store.tables import lease
from byheart_store.tables.lease import Lease
from byheart_store.tables.location import Location
from byheart_store.tables.lock import WriteLock

from ..conftest import examples

DURATION = 1.0
HOLDER = Path(__file__).with_name("holder.py")

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@contextmanager
def holding(uri: str) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lease."""
    command = [sys.executable, str(HOLDER), uri, str(DURATION), "hold"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def asked(process: subprocess.Popen[str]) -> str:
    """Whether it believes to hold the lease."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline()


async def test_a_lease_passes_from_hand_to_hand(location: Location) -> None:
    one, other = Lease(location, "test", DURATION), Lease(location, "test", DURATION)
    for _ in range(3):
        await one.acquire(0)
        with pytest.raises(TimeoutError):
            await other.acquire(0)
        await one.release()
        await other.acquire(0)
        with pytest.raises(TimeoutError):
            await one.acquire(0)
        await other.release()


@pytest.mark.slow
async def test_a_lease_is_kept_for_longer_than_it_lasts(location: Location) -> None:
    one, other = Lease(location, "test", DURATION), Lease(location, "test", DURATION)
    await one.acquire(0)
    with pytest.raises(TimeoutError):
        await other.acquire(2.5 * DURATION)
    one.check()
    await one.release()


@on_posix
@pytest.mark.slow
async def test_the_lease_of_a_killed_process_is_taken_over(location: Location) -> None:
    lease = Lease(location, "test", DURATION)
    with holding(location.address) as process:
        with pytest.raises(TimeoutError):
            await lease.acquire(1.5 * DURATION)
        process.kill()
        began = time.monotonic()
        await lease.acquire(5 * DURATION)
        assert time.monotonic() - began < 2.5 * DURATION
    await lease.release()


@on_posix
async def test_who_was_stopped_for_too_long_must_not_write(location: Location) -> None:
    lease = Lease(location, "test", DURATION)
    with holding(location.address) as process:
        assert asked(process) == "held\n"
        os.kill(process.pid, signal.SIGSTOP)
        await lease.acquire(5 * DURATION)
        os.kill(process.pid, signal.SIGCONT)
        assert "was lost while writing" in asked(process)
        await asyncio.sleep(DURATION)
        assert "was lost while writing" in asked(process)
        lease.check()
    await lease.release()


@pytest.mark.slow
async def test_processes_that_count_under_a_lease_miss_nothing(location: Location) -> None:
    processes, times = 4, 15
    objects = location.objects()
    await objects.put_async("counter", b"0")
    command = [sys.executable, str(HOLDER), location.address, "10", str(times)]
    counting = [await asyncio.create_subprocess_exec(*command) for _ in range(processes)]
    assert [await process.wait() for process in counting] == [0] * processes
    counted = await (await objects.get_async("counter")).bytes_async()
    assert int(bytes(counted)) == processes * times


async def test_the_writers_of_a_process_share_a_lease_and_leave_it_in_time(
    location: Location,
) -> None:
    here, there = (WriteLock(Lease(location, "test"), 20) for _ in range(2))
    stop = asyncio.Event()
    turns: list[str] = []

    async def write(lock: WriteLock, name: str) -> None:
        while not stop.is_set():
            async with lock.held():
                lock.check()
                turns.append(name)
                await asyncio.sleep(0.02)

    writing = [asyncio.create_task(write(here, "here")) for _ in range(3)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    async with there.held():
        waited = time.monotonic() - began
        before = len(turns)
        await asyncio.sleep(0.2)
        assert len(turns) == before
    stop.set()
    await asyncio.gather(*writing)
    assert waited < 5
    async with asyncio.timeout(5):
        async with there.held():  # nothing was left behind
            pass


async def test_who_gives_up_waiting_leaves_no_lease_behind(location: Location) -> None:
    here, there = WriteLock(Lease(location, "test"), 0.3), WriteLock(Lease(location, "test"), 5)
    entered = asyncio.Event()

    async def write() -> None:
        async with here.held():
            entered.set()
            await asyncio.sleep(0.1)

    async def give_up() -> None:
        async with here.held():
            raise AssertionError

    writing = asyncio.create_task(write())
    await entered.wait()
    waiting = asyncio.create_task(give_up())
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([writing, waiting])
    async with there.held():
        pass


async def test_a_bucket_that_is_not_there_is_told(location: Location) -> None:
    lease = Lease(Location("s3://no-such-bucket/x", "s3", location.options), "test")
    with pytest.raises(StoreUnavailable, match="no-such-bucket"):
        await lease.acquire(5)


class Lossy:
    """A bucket in memory that may lose a request on its way, or the answer to it."""

    def __init__(self) -> None:
        self.objects = InMemory()
        self.trouble = ""

    async def put_async(self, path: str, content: bytes, mode: Any) -> Any:
        trouble, self.trouble = self.trouble, ""
        if trouble == "request":
            raise GenericError("the request was lost")
        answer = await self.objects.put_async(path, content, mode=mode)
        if trouble == "answer":
            raise GenericError("the answer was lost")
        return answer

    async def get_async(self, path: str) -> Any:
        return await self.objects.get_async(path)


HOSTS = 3
some_host = st.integers(0, HOSTS - 1)
steps = st.one_of(
    st.tuples(st.just("acquire"), some_host),
    st.tuples(st.sampled_from(["release", "renew"]), some_host),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.4, 0.6, 1.01])),
    st.tuples(st.just("lose"), st.sampled_from(["request", "answer"])),
)


@examples(300)
@given(st.lists(steps, min_size=15, max_size=60))
def test_there_is_one_holder_whatever_happens_in_which_order(
    story: list[tuple[str, Any]],
) -> None:
    asyncio.run(told(story))


async def told(story: list[tuple[str, Any]]) -> None:
    bucket, clock = Lossy(), [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Location, "objects", lambda _: bucket)
        patch.setattr(lease, "_now", lambda: clock[0])
        patch.setattr(lease, "REST", 0.0)
        hosts = [Lease(Location("s3://b", "s3"), "test", DURATION) for _ in range(HOSTS)]
        for what, which in story:
            if what == "wait":
                clock[0] += which
            elif what == "lose":
                bucket.trouble = which
            else:
                with suppress(StoreUnavailable, TimeoutError):
                    await acted(hosts[which], what)
            assert sum(host.is_held for host in hosts) <= 1
        bucket.trouble = ""
        await check_free_after_silence(hosts[0], clock)


async def check_free_after_silence(host: Lease, clock: list[float]) -> None:
    """Whatever was left behind, who sees it unchanged for the duration can have it."""
    await host.release()
    clock[0] += DURATION
    with suppress(StoreUnavailable, TimeoutError):
        await host.acquire(0)
    if not host.is_held:
        clock[0] += DURATION + 0.01
        await host.acquire(0)
    assert host.is_held


async def acted(host: Lease, what: str) -> None:
    if what == "acquire":
        if not host.is_held:
            await host.acquire(0)
    elif what == "release":
        await host.release()
    # A step of its renewal, which is a task that sleeps: the clock of this story does not move it.
    elif host.is_held and not await host._extended():
        host._valid_until = 0.0
