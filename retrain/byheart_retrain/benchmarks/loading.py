"""Benchmarks in their published forms, read by the name of the format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from byheart_retrain.benchmarks.beir import load_beir
from byheart_retrain.benchmarks.benchmark import Benchmark
from byheart_retrain.benchmarks.locomo import from_locomo
from byheart_retrain.benchmarks.longmemeval import from_longmemeval
from byheart_retrain.queries.fields import Row, checked
from byheart_retrain.queries.readers import read_query_ids, read_text
from byheart_store import InvalidInput

Format = Literal["beir", "longmemeval", "locomo"]
FORMATS: tuple[Format, ...] = ("beir", "longmemeval", "locomo")

LARGEST_JSON = 3 * 2**30
"""Bytes of a file that is held in memory whole: of those published, LongMemEval-M has 2.7 GB."""

_READERS: Mapping[str, Callable[[list[Row]], Benchmark]] = {
    "longmemeval": from_longmemeval,
    "locomo": from_locomo,
}


def guessed(path: Path) -> Format:
    """The format of a folder; a file does not tell.

    Raises:
        InvalidInput: there is nothing at the path, or a file.
    """
    if path.is_dir():
        return "beir"
    if not path.exists():
        raise InvalidInput(f"{path}: no such file or folder; give the path of a benchmark")
    raise InvalidInput("--format: say whether the file is longmemeval or locomo")


def load(path: Path, file_format: Format, queries: Path | None = None) -> Benchmark:
    """Read a benchmark, or of its questions those that `queries` names by `_id`.

    A BEIR folder's own queries file is replaced by `queries`.

    Raises:
        InvalidInput: a file is missing or can't be read; the message says which and why.
    """
    if file_format == "beir":
        benchmark = load_beir(path, queries)
    else:
        benchmark = _load_json(path, _READERS[file_format])
        benchmark = _chosen(benchmark, queries) if queries else benchmark
    if not benchmark.queries:
        raise InvalidInput(f"{queries or path}: holds no question; give a file that asks something")
    return benchmark


def _load_json(path: Path, read: Callable[[list[Row]], Benchmark]) -> Benchmark:
    try:
        value = json.loads(read_text(path, LARGEST_JSON))
    except InvalidInput:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: is not JSON ({error}); give the published file") from None
    rows = value if isinstance(value, list) else [value]
    try:
        return read([checked(row, dict, f"entry {n}") for n, row in enumerate(rows, start=1)])
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def _chosen(benchmark: Benchmark, queries: Path) -> Benchmark:
    names = read_query_ids(queries)
    unknown = names - {query.id for query in benchmark.queries}
    if unknown:
        raise InvalidInput(f"{queries}: {min(unknown)[:60]} is no question of the dataset")
    return replace(benchmark, queries=[query for query in benchmark.queries if query.id in names])
