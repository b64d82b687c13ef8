"""A store that holds a benchmark's memories, kept between runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from byheart_store import FORMAT, MemoryStore, NewMemory
from byheart_store.models import Encoder, load_encoder
from byheart_store.ranking import Tuning

_IMPORTED_AT_ONCE = 512


def declared_tuning(encoder: Encoder) -> Tuning | None:
    """What was fitted for a model, as its own folder declares it."""
    return encoder.tuning


async def open_benchmark_store(
    memories: list[NewMemory],
    model: str | None,
    cache: Path,
    progress: Callable[[int], None] | None = None,
    tuning: Callable[[Encoder], Tuning | None] = declared_tuning,
) -> MemoryStore:
    """A store of exactly these memories, embedded by the model; filled only the first time.

    It lies under `cache` in a folder named by the content, the model and the store's format, and
    ranks as `tuning` says, whatever it was asked with before.

    Raises:
        ModelUnavailable: the model can't be found, fetched or loaded.
    """
    encoder = await asyncio.to_thread(load_encoder, model, cache_dir=cache / "models")
    folder = cache / f"{content_key(memories)}-{encoder.fingerprint}"
    store = await MemoryStore.open(folder, model=model, log_recalls=False)
    await store.model_ready()
    if (await store.stats()).memories != len(memories):
        for start in range(0, len(memories), _IMPORTED_AT_ONCE):
            await store.remember_many(memories[start : start + _IMPORTED_AT_ONCE], progress)
        await store.reindex()
    if await store.tuning() != tuning(encoder):
        await store.tune(tuning(encoder))
    return store


def content_key(memories: Iterable[NewMemory]) -> str:
    """32 hex digits that change with any memory and with how memories are stored."""
    digest = hashlib.blake2b(f"format {FORMAT}".encode(), digest_size=16)
    for memory in memories:
        digest.update(json.dumps(asdict(memory), default=str).encode())
    return digest.hexdigest()
