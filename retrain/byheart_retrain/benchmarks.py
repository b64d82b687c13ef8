"""Benchmarks in their published forms: memories, queries, and which memories answer which query.

    beir           a folder with corpus.jsonl, queries.jsonl (each also as .gz) and qrels.tsv,
                   or qrels/test.tsv; a query's namespace and type stand in its metadata
    longmemeval    the JSON file that LongMemEval publishes (Wu et al., ICLR 2025)
    locomo         the JSON file that LoCoMo publishes (Maharana et al., ACL 2024)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from byheart_store import InvalidInput, NewMemory
from byheart_store.interchange import json_objects, read_beir

Format = Literal["beir", "longmemeval", "locomo"]
FORMATS: tuple[Format, ...] = ("beir", "longmemeval", "locomo")

_LOCOMO_TYPES = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}
_LOCOMO_SESSION = re.compile(r"session_(\d+)")
_LOCOMO_TURN = re.compile(r"D:?(\d+):0*(\d+)")


@dataclass(frozen=True, slots=True)
class Query:
    """A question asked in one namespace; `gold` are the ids that answer it, none if nothing does.

    `gold_sessions` is given where sessions were judged themselves; otherwise they are those of
    the gold memories.
    """

    id: str
    text: str
    gold: frozenset[str]
    namespace: str | None = None
    type: str | None = None
    gold_sessions: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Memories and the queries that are asked of them."""

    memories: list[NewMemory]
    queries: list[Query]

    def within(self, namespaces: Iterable[str]) -> Benchmark:
        """Only these namespaces.

        Raises:
            InvalidInput: a namespace is not in the benchmark.
        """
        wanted = set(namespaces)
        known = {memory.namespace for memory in self.memories}
        if not wanted <= known:
            missing = ", ".join(sorted(wanted - known))
            raise InvalidInput(
                f"namespace: {missing} is not in the dataset; it has "
                f"{', '.join(sorted(name or 'default' for name in known))}"
            )
        return Benchmark(
            [memory for memory in self.memories if memory.namespace in wanted],
            [query for query in self.queries if query.namespace in wanted],
        )


def load(path: Path, file_format: Format, queries: Path | None = None) -> Benchmark:
    """Read a benchmark; `queries` takes the place of a BEIR folder's own queries file.

    Raises:
        InvalidInput: a file is missing or can't be read; the message says which and why.
    """
    if file_format == "beir":
        return _load_beir(path, queries)
    benchmark = _READERS[file_format](_json(path))
    if queries is None:
        return benchmark
    chosen = {str(row["_id"]) for row in json_objects(queries)}
    return replace(benchmark, queries=[q for q in benchmark.queries if q.id in chosen])


def _load_beir(folder: Path, queries: Path | None) -> Benchmark:
    gold = _qrels(_first(folder, "qrels.tsv", "qrels/test.tsv", "qrels.tsv.gz"))
    rows = json_objects(queries or _first(folder, "queries.jsonl", "queries.jsonl.gz"))
    asked = [_beir_query(row, gold) for row in rows]
    return Benchmark(list(read_beir(folder)), asked)


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InvalidInput(f"{folder}: holds none of {', '.join(names)}; give a BEIR folder")


def _beir_query(row: Mapping[str, Any], gold: Mapping[str, set[str]]) -> Query:
    about = row.get("metadata") or {}
    try:
        name, text = str(row["_id"]), str(row["text"])
    except KeyError as missing:
        raise InvalidInput(f"queries: a line has no {missing}; each needs _id and text") from None
    return Query(
        name,
        text,
        frozenset(gold.get(name, ())),
        namespace=about.get("namespace"),
        type=about.get("type"),
    )


def _qrels(path: Path) -> dict[str, set[str]]:
    """Read `query-id corpus-id score` or TREC's `query-id 0 corpus-id score`, scores above 0."""
    gold: dict[str, set[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        parts = line.split("\t") if "\t" in line else line.split()
        if not parts or parts[0] == "query-id":
            continue
        try:
            query, memory, score = parts[0], parts[-2], float(parts[-1])
        except (IndexError, ValueError):
            raise InvalidInput(
                f"{path}:{number}: is no judgement; write query-id, corpus-id and score with tabs"
            ) from None
        if score > 0:
            gold.setdefault(query, set()).add(memory)
    return gold


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: can't be read as JSON ({error}); give the file") from None
    return content if isinstance(content, list) else [content]


def _from_longmemeval(instances: list[dict[str, Any]]) -> Benchmark:
    """Each question has a haystack of its own, which becomes a namespace under its id."""
    memories: list[NewMemory] = []
    queries: list[Query] = []
    for instance in instances:
        name = str(instance["question_id"])
        turns = list(_longmemeval_turns(instance))
        memories += [memory for memory, _ in turns]
        unanswerable = name.endswith("_abs")
        answers = frozenset(str(memory.id) for memory, holds_answer in turns if holds_answer)
        sessions = frozenset(f"{name}:{found}" for found in instance["answer_session_ids"])
        queries.append(
            Query(
                name,
                instance["question"],
                frozenset() if unanswerable else answers,
                namespace=name,
                type=instance["question_type"],
                gold_sessions=frozenset() if unanswerable else sessions,
            )
        )
    return Benchmark(memories, queries)


def _longmemeval_turns(instance: Mapping[str, Any]) -> Iterator[tuple[NewMemory, bool]]:
    name = str(instance["question_id"])
    sessions = zip(
        instance["haystack_session_ids"],
        instance["haystack_dates"],
        instance["haystack_sessions"],
        strict=True,
    )
    for place, (session, date, turns) in enumerate(sessions):
        moment = _moment(date, "%Y/%m/%d (%a) %H:%M")
        for number, turn in enumerate(turns):
            if not turn["content"].strip():
                continue
            memory = NewMemory(
                # A haystack may hold a session twice.
                id=f"{name}:{place}:{session}:{number}",
                text=turn["content"],
                namespace=name,
                session=f"{name}:{session}",
                turn=number,
                speaker=turn["role"],
                at=moment,
            )
            yield memory, bool(turn.get("has_answer"))


def _from_locomo(samples: list[dict[str, Any]]) -> Benchmark:
    memories: list[NewMemory] = []
    queries: list[Query] = []
    for sample in samples:
        own = list(_locomo_turns(sample))
        known = {str(memory.id) for memory in own}
        memories += own
        queries += _locomo_queries(sample, known)
    return Benchmark(memories, queries)


def _locomo_turns(sample: Mapping[str, Any]) -> Iterator[NewMemory]:
    conversation, name = sample["conversation"], str(sample["sample_id"])
    numbers = sorted(
        int(match[1]) for key in conversation if (match := _LOCOMO_SESSION.fullmatch(key))
    )
    for number in numbers:
        moment = _moment(conversation.get(f"session_{number}_date_time"), "%I:%M %p on %d %B, %Y")
        for place, turn in enumerate(conversation[f"session_{number}"]):
            caption = turn.get("blip_caption")
            shared = f" [shares an image: {caption}]" if caption else ""
            text = (turn["text"] + shared).strip()
            if text:
                yield NewMemory(
                    id=f"{name}:{turn['dia_id']}",
                    text=text,
                    namespace=name,
                    session=f"{name}:session_{number}",
                    turn=place,
                    speaker=turn["speaker"],
                    at=moment,
                )


def _locomo_queries(sample: Mapping[str, Any], known: set[str]) -> Iterator[Query]:
    name = str(sample["sample_id"])
    for number, asked in enumerate(sample["qa"]):
        # The published evidence spells a few turns as D:3:4 or D3:04, and joins some by ";".
        turns = _LOCOMO_TURN.findall(" ".join(asked.get("evidence") or ()))
        gold = {f"{name}:D{session}:{turn}" for session, turn in turns} & known
        yield Query(
            f"{name}:q{number}",
            asked["question"],
            frozenset(gold),
            namespace=name,
            type=_LOCOMO_TYPES.get(asked.get("category", 0)),
        )


def _moment(text: str | None, pattern: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text.strip(), pattern).replace(tzinfo=UTC)
    except ValueError:
        return None


_READERS: Mapping[str, Callable[[list[dict[str, Any]]], Benchmark]] = {
    "longmemeval": _from_longmemeval,
    "locomo": _from_locomo,
}
