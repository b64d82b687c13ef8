"""What a memory takes on disk: its text and what is known of it, its vector, its index entries."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lancedb.index import IvfRq, IvfSq

from byheart_store import MemoryStore, NewMemory
from byheart_store.models.encoder import Encoder
from byheart_store.tables import schema

from ..bench.corpus import generated_texts
from ..peeking import description_at

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

SIZE = 50_000
KINDS = {"IVF_SQ": IvfSq(distance_type="l2"), "IVF_RQ": IvfRq(distance_type="l2")}


def below(folder: Path) -> dict[str, int]:
    """Bytes of each entry of a folder."""
    return {
        entry.name: sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
        for entry in folder.iterdir()
    }


def some_vectors(_: Encoder, texts: Sequence[str]) -> Any:
    """Of the right size and kind: what is measured here is what they take, not what they mean."""
    drawn = np.random.default_rng(len(texts)).normal(size=(len(texts), 384)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


async def test_what_a_memory_takes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "encode_passages", some_vectors)
    texts = list(generated_texts(SIZE, seed=1))
    draw = random.Random(1)
    memories = [
        NewMemory(text=text, session=f"s{number // 20}", speaker=draw.choice(["Ana", "Ben"]))
        for number, text in enumerate(texts)
    ]
    async with await MemoryStore.open(home) as store:
        await store.model_ready()
        began = time.perf_counter()
        await store.remember_many(memories)
        seconds = time.perf_counter() - began
        await store.purge()
        table = await (await lancedb.connect_async(str(home / "db"))).open_table(schema.MEMORIES)
        folder = home / "db" / "memories.lance"
        rows = await table.count_rows()
        description = await description_at(home)
        assert description.active_column
        parts = {"text index": below(folder)["_indices"], "rows": below(folder)["data"]}
        for kind, config in KINDS.items():
            known = set(below(folder / "_indices"))
            column = description.active_column.column
            await table.create_index(column, config=config, name=kind, replace=True)
            added = below(folder / "_indices")
            parts[f"{kind} index"] = sum(size for name, size in added.items() if name not in known)
    letters = sum(len(text.encode()) for text in texts) / len(texts)
    print(f"\n\n{rows:,} passages of {len(texts):,} memories of {letters:.0f} bytes; bytes each:")
    print("\n".join(f"{name:<16}{size / len(texts):>8.0f}" for name, size in parts.items()))
    print(f"  of the rows, the vector is {384 * 4:,}")
    print(f"{len(texts) / seconds:,.0f} a second were written, with vectors ready-made")
    assert parts["rows"] > SIZE * 384 * 4
