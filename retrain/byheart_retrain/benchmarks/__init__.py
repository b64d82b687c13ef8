"""Benchmarks: their published formats, the stores that hold them, and TREC runs."""

from byheart_retrain.benchmarks.benchmark import Benchmark
from byheart_retrain.benchmarks.benchmark_store import open_benchmark_store
from byheart_retrain.benchmarks.loading import FORMATS, Format, guessed, load
from byheart_retrain.benchmarks.runs import read_run, write_qrels, write_run

__all__ = [
    "FORMATS",
    "Benchmark",
    "Format",
    "guessed",
    "load",
    "open_benchmark_store",
    "read_run",
    "write_qrels",
    "write_run",
]
