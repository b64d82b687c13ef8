"""What remembering costs, beside embedding the same texts, and what it leaves behind."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import lancedb
import numpy as np
import pytest

from byheart_store import MemoryStore, NewMemory
from byheart_store.models.passages import EMBEDDED
from byheart_store.tables import schema

from .bare import BareEncoder, fastest_encoding, seconds
from .corpus import Questions, generated_texts, real_texts
from .figures import Figures
from .stores import LARGEST_EMBEDDED, Stores, megabytes_of, new_memories

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3_600)]

ROUNDS = 3
IMPORTED = 1_024
IMPORTED_MORE = 512
REMEMBERED = 25
SAMPLE = 128

SINGLY = 10_000
QUESTIONS = 60
"""Per round."""


def unseen() -> Sequence[str]:
    """Real texts that no store of this session has been built from."""
    return real_texts()[LARGEST_EMBEDDED:]


async def test_an_import_is_nearly_as_fast_as_the_encoder(figures: Figures, tmp_path: Path) -> None:
    texts = unseen()[: ROUNDS * IMPORTED]
    encode = fastest_encoding(EMBEDDED, texts[:SAMPLE])
    ours, floors = [], []
    for number in range(ROUNDS):
        part = texts[number * IMPORTED :][:IMPORTED]
        async with await MemoryStore.open(tmp_path / str(number)) as store:
            await store.model_ready()
            ours.append(IMPORTED / await _seconds_to_import(store, part, "new"))
        floors.append(IMPORTED / seconds(encode, part))
    figures.record("import", None, "/s", ours, floors, "encoder alone, sorted by length")
    figures.hold()


async def test_writing_to_a_store_of_this_size(
    figures: Figures, stores: Stores, size: int, tmp_path: Path
) -> None:
    built = await stores.of(size)
    texts = unseen()[ROUNDS * IMPORTED :]
    encode, encoder = fastest_encoding(EMBEDDED, texts[:SAMPLE]), BareEncoder()
    scratch = await _scratch_table(built.home, tmp_path)
    imports, import_floors, singles, single_floors = [], [], [], []
    async with await MemoryStore.open(built.home) as store:
        await store.model_ready()
        for number in range(ROUNDS):
            part = texts[number * IMPORTED_MORE :][:IMPORTED_MORE]
            imports.append(IMPORTED_MORE / await _seconds_to_import(store, part, f"m{number}"))
            import_floors.append(IMPORTED_MORE / seconds(encode, part))
            single, floor = [], []
            for text in part[:REMEMBERED]:
                began = time.perf_counter()
                await store.remember(NewMemory(text=text, session=f"one by one {number}"))
                remembered = time.perf_counter()
                encoder.query(text)
                await scratch.add(await scratch.query().limit(1).to_arrow())
                single.append(1_000 * (remembered - began))
                floor.append(1_000 * (time.perf_counter() - remembered))
            singles.append(single)
            single_floors.append(floor)
    encoder_alone = "encoder alone, sorted by length"
    figures.record("import into", size, "/s", imports, import_floors, encoder_alone)
    p50, floor_p50 = (list(map(statistics.median, part)) for part in (singles, single_floors))
    figures.record("remember p50", size, "ms", p50, floor_p50, "embedding + bare add of a row")
    p99 = [float(np.percentile(one, 99)) for one in singles]
    figures.record("remember p99", size, "ms", p99)
    figures.hold()


async def _seconds_to_import(store: MemoryStore, texts: Sequence[str], session: str) -> float:
    memories = list(new_memories(texts, session))
    began = time.perf_counter()
    receipts = await store.remember_many(memories)
    taken = time.perf_counter() - began
    assert {receipt.status for receipt in receipts} == {"stored"}
    return taken


async def _scratch_table(home: Path, folder: Path) -> lancedb.AsyncTable:
    """A table of one row of the store's, to add to without the store."""
    source = await lancedb.connect_async(str(home / "db"))
    rows = await (await source.open_table(schema.MEMORIES)).query().limit(1).to_arrow()
    return await (await lancedb.connect_async(str(folder / "scratch"))).create_table("rows", rows)


async def test_what_was_written_singly_is_as_good_as_an_import(
    figures: Figures, quick_model: Path, tmp_path: Path
) -> None:
    texts = list(generated_texts(SINGLY, seed=9))
    memories = list(new_memories(texts))
    model, homes = str(quick_model), (tmp_path / "singly", tmp_path / "at once")
    # What is left behind does not depend on waiting for the disk, which the test above times.
    async with await MemoryStore.open(homes[0], model=model, durability="os") as singly:
        await singly.model_ready()
        began = time.perf_counter()
        for memory in memories:
            await singly.remember(memory)
        per_memory = 1_000 * (time.perf_counter() - began) / SINGLY
    async with await MemoryStore.open(homes[1], model=model, durability="os") as at_once:
        await at_once.model_ready()
        began = time.perf_counter()
        await at_once.remember_many(memories)
        per_imported = 1_000 * (time.perf_counter() - began) / SINGLY
    figures.record("remember, quick model", SINGLY, "ms", [per_memory], [per_imported], "import")
    disks = [megabytes_of(home) for home in homes]
    figures.record("disk, written singly", SINGLY, "MB", disks[:1], disks[1:], "import")
    p50 = await _recalls(homes, model, texts)
    figures.record("recall p50, written singly", SINGLY, "ms", p50[0], p50[1], "after an import")
    figures.hold()


async def _recalls(
    homes: tuple[Path, Path], model: str, texts: Sequence[str]
) -> tuple[list[float], list[float]]:
    """The medians of each round in milliseconds, in the one home and in the other."""
    questions = Questions(texts, texts, seed=10)
    p50: tuple[list[float], list[float]] = ([], [])
    async with (
        await MemoryStore.open(homes[0], model=model) as first,
        await MemoryStore.open(homes[1], model=model) as second,
    ):
        for _ in range(ROUNDS + 1):
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(QUESTIONS):
                question, pairs = next(questions), list(zip((first, second), times, strict=True))
                for store, found in pairs if number % 2 else reversed(pairs):
                    began = time.perf_counter()
                    assert (await store.recall(question)).hits
                    found.append(1_000 * (time.perf_counter() - began))
            for found, medians in zip(times, p50, strict=True):
                medians.append(statistics.median(found))
    return p50[0][1:], p50[1][1:]
