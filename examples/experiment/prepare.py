"""The first step of an experiment: hold questions out, label the others, store all memories.

HOME/experiment/labels.jsonl             a labelled question a line, for `byheart retrain`
HOME/experiment/holdout/queries.jsonl    the questions held out, for `compare.py`
HOME/experiment/holdout/qrels.txt        the memories that answer them, for trec_eval and its like
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from byheart_retrain.benchmarks import Format, load, write_qrels
from byheart_retrain.queries import LabelledQuery
from byheart_server.commands.progress import progress
from byheart_store import ByHeartError, InvalidInput, MemoryStore, NewMemory
from byheart_store.interchange import Imported, store_all

Split: TypeAlias = Callable[
    [Sequence[LabelledQuery]], tuple[list[LabelledQuery], list[LabelledQuery]]
]
"""Tells the questions that are held out from those to learn from."""


def prepare(split: Split, formats: Sequence[Format]) -> None:
    """Read a benchmark in one of the formats, write its parts, and store its memories."""
    parser = argparse.ArgumentParser()
    parser.add_argument("benchmark", type=Path, help="the published file, or a folder")
    parser.add_argument("--format", choices=formats, default=formats[0])
    parser.add_argument("--home", type=Path, required=True, help="where the store is to lie")
    parser.add_argument("--model", help="what embeds the memories  [default: the embedded model]")
    options = parser.parse_args()
    home = options.home.expanduser().absolute()
    try:
        benchmark = load(options.benchmark, options.format)
        held_out, rest = split(benchmark.queries)
        labelled = [query for query in rest if query.gold]
        check(held_out, labelled)
        write_parts(home / "experiment", held_out, labelled)
        print_parts(held_out, rest, labelled)
        stored = asyncio.run(store(home, options.model, benchmark.memories))
    except ByHeartError as error:
        sys.exit(f"split: {error}")
    print(
        f"stored {stored.stored:,} memories in {len(stored.namespaces):,} namespaces, "
        f"{stored.duplicates:,} already there, in {stored.seconds:.0f} s"
    )


def check(held_out: Sequence[LabelledQuery], labelled: Sequence[LabelledQuery]) -> None:
    """Raises InvalidInput unless there is something to learn from and something to judge by."""
    if not held_out:
        raise InvalidInput("none of the questions is one to be held out; give the whole benchmark")
    if not labelled:
        raise InvalidInput("no question to learn from has an answer; give the whole benchmark")


def write_parts(
    folder: Path, held_out: Iterable[LabelledQuery], labelled: Iterable[LabelledQuery]
) -> None:
    """Write what the next steps read."""
    holdout = folder / "holdout"
    holdout.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "labels.jsonl", map(label, labelled))
    write_lines(holdout / "queries.jsonl", map(question, held_out))
    write_qrels(holdout / "qrels.txt", {query.id: query.gold for query in held_out})


def label(query: LabelledQuery) -> dict[str, Any]:
    """A question with its answers, as `byheart retrain --labels` reads it."""
    return {
        "id": query.id,
        "query": query.text,
        "positives": sorted(query.gold),
        "namespace": query.namespace,
        "type": query.type,
    }


def question(query: LabelledQuery) -> dict[str, Any]:
    """A question as BEIR writes it."""
    about = {"namespace": query.namespace, "type": query.type}
    return {"_id": query.id, "text": query.text, "metadata": about}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def print_parts(
    held_out: Sequence[LabelledQuery],
    rest: Sequence[LabelledQuery],
    labelled: Sequence[LabelledQuery],
) -> None:
    """The number of questions by type, and in all."""
    counts = [Counter(query.type or "other" for query in part) for part in (held_out, rest)]
    counts.append(Counter(query.type or "other" for query in labelled))
    names = sorted(counts[0].keys() | counts[1].keys())
    width = max(map(len, [*names, "questions"]))
    print(f"{'questions':{width}}  held out  to learn from  labelled")
    rows = [(name, *(count[name] for count in counts)) for name in names]
    for name, held, others, known in [*rows, ("in all", *(one.total() for one in counts))]:
        print(f"{name:{width}}  {held:8,}  {others:13,}  {known:8,}")


async def store(home: Path, model: str | None, memories: Sequence[NewMemory]) -> Imported:
    """Store the memories; what is there already stays as it is."""
    async with await MemoryStore.open(home, model=model) as opened:
        opened.load_model()
        with progress("importing") as show:
            return await store_all(opened, memories, lambda done: show(done, len(memories)))
