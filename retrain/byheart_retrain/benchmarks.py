"""Benchmarks in their published forms: memories, queries, and which memories answer which query.

beir           a folder with corpus.jsonl, queries.jsonl and qrels.tsv, or qrels/test.tsv, each
               also as .gz; a query's namespace and type stand in its metadata
longmemeval    the JSON file that LongMemEval publishes (Wu et al., ICLR 2025)
locomo         the JSON file that LoCoMo publishes (Maharana et al., ACL 2024)
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from byheart_store import DEFAULT_NAMESPACE, InvalidInput, NewMemory, parse_time
from byheart_store.interchange import content, file_in, json_objects, read_beir

Format = Literal["beir", "longmemeval", "locomo"]
FORMATS: tuple[Format, ...] = ("beir", "longmemeval", "locomo")

LARGEST_JSON = 3 * 2**30
"""Bytes of a file that is held in memory whole: of those published, LongMemEval-M has 2.7 GB."""
LARGEST_TABLE = 512 * 2**20
"""Bytes of qrels or labels: millions of judgements."""

T = TypeVar("T")
Row = Mapping[str, Any]

_KINDS: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object"}
_QRELS = ("qrels.tsv", "qrels.tsv.gz", "qrels/test.tsv", "qrels/test.tsv.gz")
_LOCOMO_TYPES = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}
_LOCOMO_SESSION = re.compile(r"session_(\d{1,9})")
_LOCOMO_TURN = re.compile(r"D:?(\d+):0*(\d+)")


@dataclass(frozen=True, slots=True)
class Query:
    """A question asked in one namespace; `gold` are the ids that answer it, none if nothing does.

    `gold_sessions` is given where sessions were judged themselves; otherwise they are those of
    the gold memories. `negatives` are memories that were judged not to answer.
    """

    id: str
    text: str
    gold: frozenset[str]
    namespace: str | None = None
    type: str | None = None
    gold_sessions: frozenset[str] | None = None
    negatives: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Memories and the queries that are asked of them."""

    memories: list[NewMemory]
    queries: list[Query]

    def within(self, namespaces: Iterable[str]) -> Benchmark:
        """Only these namespaces; a query of no namespace stays where all its answers stay.

        Raises:
            InvalidInput: a namespace is not in the benchmark, or nothing is asked in them.
        """
        wanted = set(namespaces)
        known = {memory.namespace or DEFAULT_NAMESPACE for memory in self.memories}
        if not wanted <= known:
            raise InvalidInput(
                f"namespace: {', '.join(sorted(wanted - known))} is not in the dataset; "
                f"it has {', '.join(sorted(known))}"
            )
        memories = [new for new in self.memories if (new.namespace or DEFAULT_NAMESPACE) in wanted]
        kept = {memory.id for memory in memories}
        queries = [
            query
            for query in self.queries
            if (query.gold <= kept if query.namespace is None else query.namespace in wanted)
        ]
        if not queries:
            raise InvalidInput(f"namespace: nothing is asked in {', '.join(sorted(wanted))}")
        return Benchmark(memories, queries)


def asked_elsewhere(queries: Sequence[Query], seed: int = 0) -> list[Query]:
    """Each answerable query once more, in another namespace, drawn at random.

    Nothing answers it there; its type is "elsewhere".
    """
    namespaces = sorted({query.namespace for query in queries if query.namespace})
    draw = random.Random(seed)
    moved = []
    for query in queries:
        others = [name for name in namespaces if name != query.namespace]
        if query.namespace and query.gold and others:
            nothing: frozenset[str] = frozenset()
            moved.append(
                replace(
                    query,
                    id=f"{query.id}@elsewhere",
                    gold=nothing,
                    gold_sessions=nothing,
                    negatives=nothing,
                    namespace=draw.choice(others),
                    type="elsewhere",
                )
            )
    return moved


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
        benchmark = _load_beir(path, queries)
    else:
        benchmark = _load_json(path, _READERS[file_format])
        benchmark = _chosen(benchmark, queries) if queries else benchmark
    if not benchmark.queries:
        raise InvalidInput(f"{queries or path}: holds no question; give a file that asks something")
    return benchmark


def _load_beir(folder: Path, queries: Path | None) -> Benchmark:
    judgements = _first(folder, *_QRELS)
    gold = _qrels(judgements)
    file = queries or _first(folder, "queries.jsonl", "queries.jsonl.gz")
    asked = [_beir_query(row, gold, f"{file}: query {n}") for n, row in _numbered(file)]
    # A published folder asks the questions of all its splits; only those of one are judged here.
    elsewhere = {name for split in _other_splits(judgements) for name in _qrels(split)} - set(gold)
    return Benchmark(list(read_beir(folder)), [q for q in asked if q.id not in elsewhere])


def _first(folder: Path, *names: str) -> Path:
    path = file_in(folder, *names)
    if path is None:
        raise InvalidInput(f"{folder}: holds none of {', '.join(names)}; give a BEIR folder")
    return path


def _other_splits(judgements: Path) -> list[Path]:
    if judgements.parent.name != "qrels":
        return []
    folder = judgements.parent
    splits = [file_in(folder, path.name) for path in sorted(folder.glob("*.tsv*"))]
    return [path for path in splits if path is not None and path != judgements]


def _numbered(path: Path) -> Iterator[tuple[int, Row]]:
    return enumerate(json_objects(path), start=1)


def _beir_query(row: Row, gold: Mapping[str, set[str]], position: str) -> Query:
    about = row.get("metadata") or {}
    if not isinstance(about, dict):
        raise InvalidInput(f"{position}: metadata must be an object")
    name = _name(row, "_id", position)
    return Query(
        name,
        _question(row, "text", position),
        frozenset(gold.get(name, ())),
        namespace=None if about.get("namespace") is None else _name(about, "namespace", position),
        type=None if about.get("type") is None else _name(about, "type", position),
    )


def _qrels(path: Path) -> dict[str, set[str]]:
    """Read `query-id corpus-id score` or TREC's `query-id 0 corpus-id score`, scores above 0."""
    gold: dict[str, set[str]] = {}
    for number, line in enumerate(_content(path).splitlines(), start=1):
        parts = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or parts[-1] == "score":
            continue
        try:
            query, *_, memory, score = parts
            relevant = float(score) > 0
        except ValueError:
            raise InvalidInput(
                f"{path}:{number}: is no judgement; write query-id, corpus-id and score with tabs"
            ) from None
        if relevant:
            gold.setdefault(query, set()).add(memory)
    return gold


def _content(path: Path, most: int = LARGEST_TABLE) -> str:
    if not path.exists():
        raise InvalidInput(
            f"{path}: can't be read (No such file or directory); give a file of UTF-8 text"
        )
    return content(path, most)


def _load_json(path: Path, read: Callable[[list[Row]], Benchmark]) -> Benchmark:
    try:
        value = json.loads(_content(path, LARGEST_JSON))
    except InvalidInput:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: is not JSON ({error}); give the published file") from None
    rows = value if isinstance(value, list) else [value]
    try:
        return read([_checked(row, dict, f"entry {n}") for n, row in enumerate(rows, start=1)])
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def _chosen(benchmark: Benchmark, queries: Path) -> Benchmark:
    names = {_name(row, "_id", f"{queries}: query {n}") for n, row in _numbered(queries)}
    unknown = names - {query.id for query in benchmark.queries}
    if unknown:
        raise InvalidInput(f"{queries}: {min(unknown)[:60]} is no question of the dataset")
    return replace(benchmark, queries=[query for query in benchmark.queries if query.id in names])


def _checked(value: object, kind: type[T], position: str) -> T:
    if isinstance(value, kind):
        return value
    missing = "is missing" if value is None else f"must be {_KINDS[kind]}"
    raise InvalidInput(f"{position}: {missing}; give the file as it was published")


def _field(row: Row, name: str, kind: type[T], position: str) -> T:
    return _checked(row.get(name), kind, f"{position}: {name}")


def _name(row: Row, name: str, position: str) -> str:
    return _named(row.get(name), f"{position}: {name}")


def _named(value: object, position: str) -> str:
    # Files made by hand number their questions.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _checked(value, str, position)


def _question(row: Row, name: str, position: str) -> str:
    text = _field(row, name, str, position)
    if not text.strip():
        raise InvalidInput(f"{position}: {name}: is empty; say what to look for")
    return text


def _from_longmemeval(instances: list[Row]) -> Benchmark:
    """Each question has a haystack of its own, which becomes a namespace under its id."""
    memories: list[NewMemory] = []
    queries: list[Query] = []
    for number, instance in enumerate(instances, start=1):
        name = _name(instance, "question_id", f"question {number}")
        turns = list(_longmemeval_turns(instance, name))
        memories += [memory for memory, _ in turns]
        queries.append(_longmemeval_query(instance, name, turns))
    return Benchmark(memories, queries)


def _longmemeval_query(instance: Row, name: str, turns: list[tuple[NewMemory, bool]]) -> Query:
    position = f"question {name}"
    answers = frozenset(str(memory.id) for memory, holds_answer in turns if holds_answer)
    found = _field(instance, "answer_session_ids", list, position)
    sessions = frozenset(f"{name}:{_named(session, position)}" for session in found)
    unanswerable = name.endswith("_abs")
    return Query(
        name,
        _question(instance, "question", position),
        frozenset() if unanswerable else answers,
        namespace=name,
        type=_name(instance, "question_type", position),
        # The sessions count of their own where no turn of theirs is marked.
        gold_sessions=frozenset() if unanswerable else None if answers else sessions,
    )


def _longmemeval_turns(instance: Row, name: str) -> Iterator[tuple[NewMemory, bool]]:
    position = f"question {name}"
    ids = _field(instance, "haystack_session_ids", list, position)
    dates = _field(instance, "haystack_dates", list, position)
    sessions = _field(instance, "haystack_sessions", list, position)
    if not len(ids) == len(dates) == len(sessions):
        raise InvalidInput(f"{position}: has {len(ids)} session ids for {len(sessions)} sessions")
    for order, (given, date, turns) in enumerate(zip(ids, dates, sessions, strict=True)):
        session = _named(given, f"{position}: session")
        moment = _moment(date, "%Y/%m/%d (%a) %H:%M", position)
        where = f"{position}: session {session}"
        for number, turn in enumerate(_checked(turns, list, where)):
            text = _field(_checked(turn, dict, where), "content", str, where)
            if not text.strip():
                continue
            memory = NewMemory(
                # A haystack may hold a session twice.
                id=f"{name}:{order}:{session}:{number}",
                text=text,
                namespace=name,
                session=f"{name}:{session}",
                turn=number,
                speaker=_field(turn, "role", str, where),
                at=moment,
            )
            yield memory, turn.get("has_answer") is True


def _from_locomo(samples: list[Row]) -> Benchmark:
    memories: list[NewMemory] = []
    queries: list[Query] = []
    for number, sample in enumerate(samples, start=1):
        name = _name(sample, "sample_id", f"conversation {number}")
        own = list(_locomo_turns(sample, name))
        known = {str(memory.id) for memory in own}
        memories += own
        queries += _locomo_queries(sample, name, known)
    return Benchmark(memories, queries)


def _locomo_turns(sample: Row, name: str) -> Iterator[NewMemory]:
    conversation = _field(sample, "conversation", dict, name)
    # The published file dates more sessions than it holds.
    numbers = sorted(
        int(match[1]) for key in conversation if (match := _LOCOMO_SESSION.fullmatch(key))
    )
    for number in numbers:
        where = f"{name}: session_{number}"
        moment = _moment(
            conversation.get(f"session_{number}_date_time"), "%I:%M %p on %d %B, %Y", where
        )
        for order, turn in enumerate(_checked(conversation[f"session_{number}"], list, where)):
            text = _locomo_text(_checked(turn, dict, where), where)
            if text:
                yield NewMemory(
                    id=f"{name}:{_field(turn, 'dia_id', str, where)}",
                    text=text,
                    namespace=name,
                    session=f"{name}:session_{number}",
                    turn=order,
                    speaker=_field(turn, "speaker", str, where),
                    at=moment,
                )


def _locomo_text(turn: Row, where: str) -> str:
    caption = _checked(turn.get("blip_caption") or "", str, f"{where}: blip_caption")
    shared = f" [shares an image: {caption}]" if caption else ""
    return (_field(turn, "text", str, where) + shared).strip()


def _locomo_queries(sample: Row, name: str, known: set[str]) -> Iterator[Query]:
    for number, asked in enumerate(_field(sample, "qa", list, name)):
        position = f"{name}: question {number}"
        row = _checked(asked, dict, position)
        category = row.get("category")
        yield Query(
            f"{name}:q{number}",
            _question(row, "question", position),
            _locomo_gold(row, name, position) & known,
            namespace=name,
            type=_LOCOMO_TYPES.get(category) if isinstance(category, int) else None,
        )


def _locomo_gold(row: Row, name: str, position: str) -> frozenset[str]:
    """The published evidence spells a few turns as D:3:4 or D3:04, and joins some by ";"."""
    evidence = _checked(row.get("evidence") or [], list, f"{position}: evidence")
    named = (item for item in evidence if isinstance(item, str))
    turns = _LOCOMO_TURN.findall(" ".join(named))
    return frozenset(f"{name}:D{session}:{turn}" for session, turn in turns)


def _moment(value: object, pattern: str, position: str) -> datetime | None:
    """A date as it is published, or as ISO 8601 writes it."""
    if not value:
        return None
    text = _checked(value, str, f"{position}: date")
    try:
        return datetime.strptime(text.strip(), pattern).replace(tzinfo=UTC)
    except ValueError:
        return parse_time(text, "date")


_READERS: Mapping[str, Callable[[list[Row]], Benchmark]] = {
    "longmemeval": _from_longmemeval,
    "locomo": _from_locomo,
}
