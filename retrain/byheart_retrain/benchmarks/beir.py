"""A folder as BEIR publishes benchmarks (Thakur et al., NeurIPS 2021).

It holds corpus.jsonl, queries.jsonl and qrels.tsv, or qrels/test.tsv, each also as .gz; a query's
namespace and type stand in its metadata.
"""

from __future__ import annotations

from pathlib import Path

from byheart_retrain.benchmarks.benchmark import Benchmark
from byheart_retrain.queries.readers import read_qrels, read_queries
from byheart_store import InvalidInput
from byheart_store.interchange import file_in, read_beir

_QRELS = ("qrels.tsv", "qrels.tsv.gz", "qrels/test.tsv", "qrels/test.tsv.gz")


def load_beir(folder: Path, queries: Path | None) -> Benchmark:
    """The benchmark in a folder; `queries` replaces the queries file there.

    Raises:
        InvalidInput: a file is missing or can't be read; the message says which and why.
    """
    qrels = _first(folder, *_QRELS)
    gold = read_qrels(qrels)
    asked = read_queries(queries or _first(folder, "queries.jsonl", "queries.jsonl.gz"), gold)
    # A published folder holds the queries of all its splits; the others' have no answer here.
    elsewhere = {name for split in _other_splits(qrels) for name in read_qrels(split)} - set(gold)
    return Benchmark(list(read_beir(folder)), [q for q in asked if q.id not in elsewhere])


def _first(folder: Path, *names: str) -> Path:
    path = file_in(folder, *names)
    if path is None:
        raise InvalidInput(f"{folder}: holds none of {', '.join(names)}; give a BEIR folder")
    return path


def _other_splits(qrels: Path) -> list[Path]:
    if qrels.parent.name != "qrels":
        return []
    folder = qrels.parent
    splits = [file_in(folder, path.name) for path in sorted(folder.glob("*.tsv*"))]
    return [path for path in splits if path is not None and path != qrels]
