"""The JSON file that LongMemEval publishes (Wu et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Iterator

from byheart_retrain.benchmarks.benchmark import Benchmark
from byheart_retrain.benchmarks.published_times import published_time
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.queries.fields import (
    Row,
    as_identifier,
    checked,
    field,
    identifier,
    query_text,
)
from byheart_store import InvalidInput, NewMemory


def from_longmemeval(instances: list[Row]) -> Benchmark:
    """Each question has a haystack of its own, which becomes a namespace under its id.

    Raises:
        InvalidInput: a row is not as it was published; the message says which and why.
    """
    memories: list[NewMemory] = []
    queries: list[LabelledQuery] = []
    for number, instance in enumerate(instances, start=1):
        name = identifier(instance, "question_id", f"question {number}")
        turns = list(_turns(instance, name))
        memories += [memory for memory, _ in turns]
        queries.append(_query(instance, name, turns))
    return Benchmark(memories, queries)


def _query(instance: Row, name: str, turns: list[tuple[NewMemory, bool]]) -> LabelledQuery:
    asked_in = f"question {name}"
    answers = frozenset(str(memory.id) for memory, holds_answer in turns if holds_answer)
    answering = field(instance, "answer_session_ids", list, asked_in)
    sessions = frozenset(f"{name}:{as_identifier(session, asked_in)}" for session in answering)
    unanswerable = name.endswith("_abs")
    return LabelledQuery(
        name,
        query_text(instance, "question", asked_in),
        frozenset() if unanswerable else answers,
        namespace=name,
        type=identifier(instance, "question_type", asked_in),
        # The sessions count of their own where no turn of theirs is marked.
        gold_sessions=frozenset() if unanswerable else None if answers else sessions,
    )


def _turns(instance: Row, name: str) -> Iterator[tuple[NewMemory, bool]]:
    asked_in = f"question {name}"
    ids = field(instance, "haystack_session_ids", list, asked_in)
    dates = field(instance, "haystack_dates", list, asked_in)
    sessions = field(instance, "haystack_sessions", list, asked_in)
    if not len(ids) == len(dates) == len(sessions):
        raise InvalidInput(f"{asked_in}: has {len(ids)} session ids for {len(sessions)} sessions")
    for order, (given, date, turns) in enumerate(zip(ids, dates, sessions, strict=True)):
        session = as_identifier(given, f"{asked_in}: session")
        moment = published_time(date, "%Y/%m/%d (%a) %H:%M", asked_in)
        where = f"{asked_in}: session {session}"
        for number, turn in enumerate(checked(turns, list, where)):
            text = field(checked(turn, dict, where), "content", str, where)
            if not text.strip():
                continue
            memory = NewMemory(
                # A haystack may hold a session twice.
                id=f"{name}:{order}:{session}:{number}",
                text=text,
                namespace=name,
                session=f"{name}:{session}",
                turn=number,
                speaker=field(turn, "role", str, where),
                at=moment,
            )
            yield memory, turn.get("has_answer") is True
