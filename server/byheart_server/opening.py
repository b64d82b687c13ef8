"""Opens the store that the settings name, for a server as for a command."""

from __future__ import annotations

from byheart_server.settings import Settings
from byheart_store import MemoryStore


async def open_store(settings: Settings) -> MemoryStore:
    """Open the store that the settings name."""
    return await MemoryStore.open(
        settings.home,
        uri=settings.uri,
        model=settings.model,
        log_recalls=settings.log_recalls,
        durability=settings.durability,
        purge_after_days=settings.purge_after_days,
    )
