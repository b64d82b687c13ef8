"""Stores of every size, each built once a session."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import lancedb

from byheart_store import MemoryStore, NewMemory
from byheart_store.models.passages import EMBEDDED, Span
from byheart_store.moments import uuid7
from byheart_store.records import DEFAULT_NAMESPACE, Memory
from byheart_store.tables import schema
from byheart_store.tables.rows import Draft, before_next, digest_of, rows_of, to_table

from .bare import fastest_encoding
from .corpus import MOST_TOPICS, Clusters, Questions, generated_texts, real_texts

LARGEST_EMBEDDED = 10_000
"""Beyond it, embedding would take hours: texts and vectors are generated."""

DIMENSION = 384
TURNS_IN_A_SESSION = 20
ROWS_PER_COMMIT = 50_000
TEXTS_KEPT = 20_000
"""Of the texts remembered, so many are asked for."""
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Remembered:
    """Some of the texts that a store holds, what they are about, and how long all are together."""

    texts: Sequence[str]
    topics: Sequence[str]
    characters: int


@dataclass(frozen=True, slots=True)
class Built:
    """A store at rest in its home; all that it remembers in `raw_megabytes` of text and vectors."""

    home: Path
    size: int
    remembered: Remembered
    disk_megabytes: float
    seconds_to_compact: float

    def questions(self, seed: int) -> Questions:
        return Questions(self.remembered.texts, self.remembered.topics, seed)

    @property
    def raw_megabytes(self) -> float:
        return (self.remembered.characters + 4 * DIMENSION * self.size) / 1e6


class Stores:
    """Builds the store of a size when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[int, Built] = {}

    async def of(self, size: int) -> Built:
        if size not in self._built:
            self._built[size] = await _built(self._folder / str(size), size)
        return self._built[size]


async def _built(home: Path, size: int) -> Built:
    began = time.perf_counter()
    write = _remember if size <= LARGEST_EMBEDDED else _generate
    remembered = await write(home, size)
    written = time.perf_counter()
    async with await MemoryStore.open(home) as store:
        await store.reindex()
    compacted = time.perf_counter()
    print(
        f"\n{size:,} memories: written in {written - began:.0f} s, "
        f"compacted in {compacted - written:.0f} s",
        end="",
    )
    return Built(home, size, remembered, megabytes_of(home), compacted - written)


async def _remember(home: Path, size: int) -> Remembered:
    texts = real_texts()[:size]
    assert len(texts) == size
    async with await MemoryStore.open(home) as store:
        await store.model_ready()
        await store.remember_many(list(new_memories(texts)))
    return Remembered(texts, texts, sum(map(len, texts)))


async def _generate(home: Path, size: int) -> Remembered:
    """Write generated memories to the table, in the rows that the store would write."""
    async with await MemoryStore.open(home) as store:
        await store.model_ready()
    topics = real_texts()[:MOST_TOPICS]
    clusters = Clusters(fastest_encoding(EMBEDDED, topics[:50])(topics), size, seed=size)
    connection = await lancedb.connect_async(str(home / "db"))
    table = await connection.open_table(schema.MEMORIES)
    column = schema.description_of(await table.schema()).active_column
    assert column is not None
    texts: list[str] = []
    characters = 0
    drafts = _drafts(generated_texts(size, seed=size))
    while batch := list(islice(drafts, ROWS_PER_COMMIT)):
        vectors = clusters.vectors(clusters.drawn(len(batch)))
        await table.add(to_table(rows_of(batch), column.column, vectors))
        kept = batch[: max(1, TEXTS_KEPT * len(batch) // size)]
        texts += [draft.memory.text for draft in kept]
        characters += sum(len(draft.memory.text) for draft in batch)
    return Remembered(texts, topics, characters)


def new_memories(texts: Sequence[str], session: str = "s") -> Iterator[NewMemory]:
    """A conversation of two, in sessions of twenty turns."""
    for number, text in enumerate(texts):
        yield NewMemory(
            text=text,
            session=f"{session}{number // TURNS_IN_A_SESSION}",
            speaker=f"p{number % 2}",
            at=BEGAN + timedelta(minutes=number),
        )


def _drafts(texts: Iterator[str]) -> Iterator[Draft]:
    """The same conversation as the store would split, place and identify it."""
    before: tuple[str, ...] = ()
    for number, text in enumerate(texts):
        session, turn = f"s{number // TURNS_IN_A_SESSION}", number % TURNS_IN_A_SESSION
        if turn == 0:
            before = ()
        at = BEGAN + timedelta(minutes=number)
        memory = Memory(
            id=uuid7(),
            text=text,
            namespace=DEFAULT_NAMESPACE,
            session=session,
            turn=turn + 1,
            speaker=f"p{number % 2}",
            at=at,
            tags=(),
            source=None,
            metadata={},
            created=at,
            replaces=None,
            replaced_by=None,
            replaced_at=None,
            client=None,
            token=None,
        )
        digest = digest_of(DEFAULT_NAMESPACE, session, text)
        draft = Draft(memory, digest, (Span(0, len(text)),), before)
        before = before_next(before, draft.said())
        yield draft


def megabytes_of(folder: Path) -> float:
    """What all files of a folder take together."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
