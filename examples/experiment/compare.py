"""Compare two runs of `byheart eval` on the questions that were held out.

python examples/experiment/compare.py BENCHMARK before.trec after.trec --format FORMAT \
    --queries HOME/experiment/holdout/queries.jsonl

Prints the means of both, their paired differences with 95% bootstrap intervals, and which of them
are significant, overall and by type. A question that a run does not answer counts as 0; one that
nothing answers is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_retrain.benchmarks import FORMATS, Benchmark, load, read_run
from byheart_retrain.evaluation.metrics import METRICS, RESAMPLES, Interval, intervals, measured
from byheart_retrain.queries import LabelledQuery
from byheart_store import ByHeartError, InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Run: TypeAlias = Mapping[str, Sequence[str]]

LEVELS = ("memory", "session")
SHOWN = {
    "ndcg@10": "NDCG@10",
    "recall@1": "R@1",
    "recall@3": "R@3",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "mrr": "MRR",
}
COLUMNS = [list(METRICS).index(name) for name in SHOWN]


@dataclass(frozen=True, slots=True)
class Compared:
    """Means by metric over the same questions, and those of the paired differences."""

    questions: int
    before: dict[str, Interval]
    after: dict[str, Interval]
    difference: dict[str, Interval]

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON values."""
        found: dict[str, Any] = {"questions": self.questions}
        for name in ("before", "after", "difference"):
            found[name] = {key: one.as_dict() for key, one in getattr(self, name).items()}
        for key, one in self.difference.items():
            found["difference"][key]["significant"] = significant(one)
        return found


def significant(difference: Interval) -> bool:
    """Whether its 95% interval leaves out 0."""
    return difference.low > 0 or difference.high < 0


def compared(before: Floats, after: Floats) -> Compared:
    """(n, m) values of the same n questions in two runs."""
    means = [
        dict(zip(SHOWN, intervals(values), strict=True))
        for values in (before, after, after - before)
    ]
    return Compared(len(before), *means)


def compared_by_type(
    queries: Sequence[LabelledQuery], before: Floats, after: Floats
) -> dict[str, Compared]:
    """The same for the questions of each type."""
    found = {}
    for name in sorted({query.type or "other" for query in queries}):
        places = [place for place, one in enumerate(queries) if (one.type or "other") == name]
        found[name] = compared(before[places], after[places])
    return found


@dataclass(frozen=True, slots=True)
class Judgements:
    """The questions that something answers, with what answers them: memories or sessions."""

    queries: list[LabelledQuery]
    gold: list[Collection[str]]
    sessions: Mapping[str, str] | None

    def values(self, run: Run) -> Floats:
        """(n, m) values of the n questions, a column per metric shown."""
        if not any(query.id in run for query in self.queries):
            raise InvalidInput("a run answers none of the questions held out; give another")
        rankings = [self.ranking(run.get(query.id, ())) for query in self.queries]
        return measured(rankings, self.gold)[:, COLUMNS]

    def ranking(self, memories: Sequence[str]) -> Sequence[str]:
        """The memories, or their sessions, each at the rank of its first memory."""
        sessions = self.sessions
        if sessions is None:
            return memories
        return tuple(dict.fromkeys(sessions.get(memory, memory) for memory in memories))


def judgements(benchmark: Benchmark, level: str) -> Judgements:
    """What is to be found at a level, for each question with anything to be found there."""
    sessions = {str(new.id): new.session for new in benchmark.memories if new.session}
    gold = {
        query.id: query.gold if level == "memory" else gold_sessions(query, sessions)
        for query in benchmark.queries
    }
    queries = [query for query in benchmark.queries if gold[query.id]]
    return Judgements(
        queries, [gold[query.id] for query in queries], None if level == "memory" else sessions
    )


def gold_sessions(query: LabelledQuery, sessions: Mapping[str, str]) -> Collection[str]:
    """The sessions judged to answer a question, else those of the memories that do."""
    if query.gold_sessions is not None:
        return query.gold_sessions
    return {sessions.get(memory, memory) for memory in query.gold}


def print_tables(title: str, overall: Compared, by_type: Mapping[str, Compared]) -> None:
    """A row per metric, for all questions and for those of each type."""
    print(title)
    heads = {"overall": overall, **by_type}
    width = max(len(f"{name} ({one.questions})") for name, one in heads.items())
    for name, one in heads.items():
        head = f"{name} ({one.questions})"
        print(f"\n{head:{width}}    base  specialist  difference  95% interval")
        for key, shown in SHOWN.items():
            change = one.difference[key]
            print(
                f"  {shown:{width - 2}}  {one.before[key].mean:6.4f}  "
                f"{one.after[key].mean:10.4f}  {change.mean:+10.4f}  "
                f"{change.low:+.4f} to {change.high:+.4f}"
                + ("  significant" if significant(change) else "")
            )


def main() -> None:
    """Read two runs, print what became of the questions held out."""
    parser = argparse.ArgumentParser(description="Compare two runs on the questions held out.")
    parser.add_argument("benchmark", type=Path, help="what byheart eval was given")
    parser.add_argument("before", type=Path, help="the base's run")
    parser.add_argument("after", type=Path, help="the specialist's run")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--queries", type=Path, required=True, help="the questions held out")
    parser.add_argument("--level", choices=LEVELS, default="memory", help="what is ranked")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        benchmark = load(options.benchmark, options.format, options.queries)
        judged = judgements(benchmark, options.level)
        before, after = (judged.values(read_run(run)) for run in (options.before, options.after))
    except ByHeartError as error:
        sys.exit(f"compare: {error}")
    overall = compared(before, after)
    by_type = compared_by_type(judged.queries, before, after)
    held_out = len(benchmark.queries)
    if options.json:
        figures = {"level": options.level, "held_out": held_out, "resamples": RESAMPLES}
        types = {name: one.as_dict() for name, one in by_type.items()}
        print(json.dumps(figures | {"overall": overall.as_dict(), "by_type": types}, indent=2))
        return
    title = (
        f"{held_out} questions held out, {overall.questions} with an answer, "
        f"ranked by {options.level}, {RESAMPLES:,} resamples"
    )
    print_tables(title, overall, by_type)


if __name__ == "__main__":
    main()
