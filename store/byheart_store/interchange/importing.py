"""Memories stored in batches, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from byheart_store.errors import ByHeartError
from byheart_store.records import (
    DEFAULT_NAMESPACE,
    NewMemory,
)

if TYPE_CHECKING:
    from byheart_store.store import MemoryStore


BATCH_MEMORIES = 256

BATCH_CHARACTERS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did; `namespaces` counts the memories read for each."""

    stored: int
    replaced: int
    duplicates: int
    seconds: float
    namespaces: Mapping[str, int]

    @property
    def read(self) -> int:
        """The number of memories read."""
        return self.stored + self.replaced + self.duplicates

    @property
    def per_second(self) -> float:
        """Memories read in a second."""
        return self.read / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {
            "stored": self.stored,
            "replaced": self.replaced,
            "duplicates": self.duplicates,
            "seconds": round(self.seconds, 3),
            "per_second": round(self.per_second, 1),
            "namespaces": dict(self.namespaces),
        }


async def store_all(
    store: MemoryStore,
    memories: Iterable[NewMemory],
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Store memories in batches; what is stored already counts as a duplicate.

    `progress` is told how many memories are done.

    Raises:
        InvalidInput: the first batch holds what can't be read; nothing was stored.
        ByHeartError: a later one does, or a write failed; the message says how many are stored.
    """
    started = time.perf_counter()
    statuses: Counter[str] = Counter()
    namespaces: Counter[str] = Counter()
    try:
        for batch in _batches(memories):
            receipts = await store.remember_many(batch)
            statuses.update(receipt.status for receipt in receipts)
            namespaces.update(memory.namespace or DEFAULT_NAMESPACE for memory in batch)
            if progress is not None:
                progress(statuses.total())
    except ByHeartError as error:
        if not statuses:
            raise
        raise ByHeartError(
            f"{error} (the first {statuses.total():,} memories are stored; "
            "run the import again when it is mended: nothing is stored twice)"
        ) from error
    return Imported(
        stored=statuses["stored"],
        replaced=statuses["replaced"],
        duplicates=statuses["duplicate"],
        seconds=time.perf_counter() - started,
        namespaces=namespaces,
    )


def _batches(memories: Iterable[NewMemory]) -> Iterator[list[NewMemory]]:
    batch: list[NewMemory] = []
    characters = 0
    for memory in memories:
        batch.append(memory)
        characters += len(memory.text)
        if len(batch) == BATCH_MEMORIES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
