"""`byheart stats`: the size and state of a store."""

from __future__ import annotations

import click

from byheart_server.commands.options import json_option, settings_options
from byheart_server.commands.printing import print_json, print_table
from byheart_server.opening import with_store
from byheart_server.settings import Settings
from byheart_store import MemoryStore, StoreStats


@click.command("stats")
@settings_options(model=False)
@json_option
def stats_command(settings: Settings, as_json: bool) -> None:
    """Show what the store holds."""

    async def stats(store: MemoryStore) -> StoreStats:
        return await store.stats()

    found = with_store(settings, stats)
    if as_json:
        print_json(found.as_dict())
        return
    print_table(_rows(found))


def _rows(found: StoreStats) -> dict[str, str]:
    rows = {
        "store": found.location,
        "format": str(found.format),
        "model": found.model or "none yet",
        "fingerprint": found.fingerprint or "none yet",
        "memories": f"{found.memories:,}",
        "  replaced": f"{found.replaced:,}",
        "passages": f"{found.passages:,}",
        "  without vector": f"{found.without_vector:,}",
        "recalls": f"{found.recalls:,}",
        "labels": f"{found.labels:,}",
        "size on disk": "unknown" if found.bytes is None else f"{found.bytes / 1e6:,.2f} MB",
        "namespaces": f"{len(found.namespaces):,}",
    }
    return rows | {f"  {name}": f"{count:,}" for name, count in found.namespaces.items()}
