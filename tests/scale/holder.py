"""A process that takes the lease of a place: to count under it, or to hold it and be asked."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from byheart_store import StoreBusy
from byheart_store.home import Home
from byheart_store.tables.lease import Lease
from byheart_store.tables.location import Location


async def count(location: Location, lease: Lease, times: int) -> None:
    """Read, wait, write: what two at once would do wrong."""
    objects = location.objects()
    for _ in range(times):
        await lease.acquire(30)
        found = await (await objects.get_async("counter")).bytes_async()
        await asyncio.sleep(0.001)
        lease.check()
        await objects.put_async("counter", str(int(bytes(found)) + 1).encode())
        await lease.release()


async def hold(lease: Lease) -> None:
    await lease.acquire(30)
    print("held", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            lease.check()
        except StoreBusy as error:
            print(error, flush=True)
        else:
            print("held", flush=True)


async def main(uri: str, duration: str, times: str) -> None:
    location = Location.of(Home(Path()), uri)
    lease = Lease(location, "test", float(duration))
    if times == "hold":
        await hold(lease)
    else:
        await count(location, lease, int(times))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
