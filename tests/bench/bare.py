"""The floors: the model and the table asked directly, with nothing of ByHeart between."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import onnxruntime
from lancedb.query import MatchQuery
from lancedb.table import AsyncTable
from numpy.typing import NDArray
from tokenizers import Tokenizer

from byheart_store.models.passages import EMBEDDED
from byheart_store.ranking.tuning import DEFAULT_TUNING
from byheart_store.tables import schema

Vector = NDArray[np.float32]

POOL = DEFAULT_TUNING.fusion.pool
"""Candidates of each leg, as many as a recall weighs."""
MOST_TOKENS = 256
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BareEncoder:
    """A model folder in onnxruntime: tokens in, the mean of the token vectors out."""

    def __init__(self, folder: Path = EMBEDDED, *, threads: int = 1) -> None:
        """`threads` work on one run together."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tokenizer.enable_padding()

    def query(self, text: str) -> Vector:
        """One query -> (d,) unit vector."""
        return self.batch([text])[0]

    def batch(self, texts: Sequence[str]) -> Vector:
        """n texts in one run -> (n, d) unit vectors."""
        read = self._tokenizer.encode_batch(list(texts))
        mask = np.array([one.attention_mask for one in read], np.int64)
        offered = {
            "input_ids": np.array([one.ids for one in read], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        taken = {name: values for name, values in offered.items() if name in self._inputs}
        tokens = self._session.run(None, taken)[0]
        weights = mask[..., np.newaxis].astype(np.float32)
        vectors: Vector = (tokens * weights).sum(axis=1) / weights.sum(axis=1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


Encode = Callable[[Sequence[str]], Vector]


def fastest_encoding(folder: Path, sample: Sequence[str]) -> Encode:
    """The quickest way to encode many texts on this machine: batches, sorted by length.

    Either runs side by side with a thread each, or one after the other with all threads.
    """
    alone, together = BareEncoder(folder), BareEncoder(folder, threads=CORES)
    ways: list[Encode] = [
        way
        for size in (1, 8, 32)
        for way in (_in_batches(alone, size, CORES), _in_batches(together, size, 1))
    ]
    return min(ways, key=lambda way: min(seconds(way, sample) for _ in range(2)))


def _in_batches(encoder: BareEncoder, size: int, workers: int) -> Encode:
    def encode(texts: Sequence[str]) -> Vector:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        batches = [order[first : first + size] for first in range(0, len(order), size)]
        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(encoder.batch, [[texts[i] for i in one] for one in batches]))
        rows = np.empty((len(texts), found[0].shape[1]), np.float32)
        rows[np.concatenate(batches)] = np.concatenate(found)
        return rows

    return encode


def seconds(encode: Encode, texts: Sequence[str]) -> float:
    """How long the texts take to encode."""
    began = time.perf_counter()
    encode(texts)
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class BareTable:
    """The table of a store and its active vector column, on a connection of its own.

    The vectors are compared by `metric`, the index's own, since another one can't use the index.
    """

    memories: AsyncTable
    column: str
    metric: str

    @classmethod
    async def open(cls, home: Path) -> BareTable:
        connection = await lancedb.connect_async(
            str(home / "db"), read_consistency_interval=timedelta(0)
        )
        memories = await connection.open_table(schema.MEMORIES)
        column = schema.description_of(await memories.schema()).active_column
        assert column is not None
        return cls(memories, column.column, await _metric(memories, column.column))

    async def words(self, query: str) -> None:
        """The text leg: the best of the index, ids and scores alone."""
        match = MatchQuery(query, schema.SEARCHED)  # type: ignore[call-arg]
        search = self.memories.query().nearest_to_text(match)
        await search.select(["id", "_score"]).limit(POOL).to_arrow()

    async def nearest(self, vector: Vector) -> None:
        """The vector leg: by the index if there is one, else by brute force."""
        search = self.memories.query().nearest_to(vector).column(self.column)
        search = search.distance_type(self.metric).select(["id", "_distance"])
        await search.limit(POOL).to_arrow()

    async def both(self, encoder: BareEncoder, query: str) -> None:
        """What a hybrid recall can't do without: embedding and legs, side by side."""

        async def by_vector() -> None:
            await self.nearest(await asyncio.to_thread(encoder.query, query))

        await asyncio.gather(self.words(query), by_vector())


async def _metric(memories: AsyncTable, column: str) -> str:
    for index in await memories.list_indices():
        if index.columns == [column]:
            stats = await memories.index_stats(index.name)
            return (stats and stats.distance_type) or "cosine"
    return "cosine"
