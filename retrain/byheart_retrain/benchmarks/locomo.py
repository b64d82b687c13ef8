"""The JSON file that LoCoMo publishes (Maharana et al., ACL 2024)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from byheart_retrain.benchmarks.benchmark import Benchmark
from byheart_retrain.benchmarks.published_times import published_time
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.queries.fields import Row, checked, field, identifier, query_text
from byheart_store import NewMemory

_TYPES = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}
_SESSION = re.compile(r"session_(\d{1,9})")
_TURN = re.compile(r"D:?(\d+):0*(\d+)")


def from_locomo(samples: list[Row]) -> Benchmark:
    """Each conversation becomes a namespace under its id.

    Raises:
        InvalidInput: a row is not as it was published; the message says which and why.
    """
    memories: list[NewMemory] = []
    queries: list[LabelledQuery] = []
    for number, sample in enumerate(samples, start=1):
        name = identifier(sample, "sample_id", f"conversation {number}")
        own = list(_turns(sample, name))
        held = {str(memory.id) for memory in own}
        memories += own
        queries += _queries(sample, name, held)
    return Benchmark(memories, queries)


def _turns(sample: Row, name: str) -> Iterator[NewMemory]:
    conversation = field(sample, "conversation", dict, name)
    # The published file dates more sessions than it holds.
    numbers = sorted(int(match[1]) for key in conversation if (match := _SESSION.fullmatch(key)))
    for number in numbers:
        where = f"{name}: session_{number}"
        moment = published_time(
            conversation.get(f"session_{number}_date_time"), "%I:%M %p on %d %B, %Y", where
        )
        for order, turn in enumerate(checked(conversation[f"session_{number}"], list, where)):
            text = _text(checked(turn, dict, where), where)
            if text:
                yield NewMemory(
                    id=f"{name}:{field(turn, 'dia_id', str, where)}",
                    text=text,
                    namespace=name,
                    session=f"{name}:session_{number}",
                    turn=order,
                    speaker=field(turn, "speaker", str, where),
                    at=moment,
                )


def _text(turn: Row, where: str) -> str:
    caption = checked(turn.get("blip_caption") or "", str, f"{where}: blip_caption")
    shared = f" [shares an image: {caption}]" if caption else ""
    return (field(turn, "text", str, where) + shared).strip()


def _queries(sample: Row, name: str, held: set[str]) -> Iterator[LabelledQuery]:
    for number, asked in enumerate(field(sample, "qa", list, name)):
        where = f"{name}: question {number}"
        row = checked(asked, dict, where)
        category = row.get("category")
        yield LabelledQuery(
            f"{name}:q{number}",
            query_text(row, "question", where),
            _gold(row, name, where) & held,
            namespace=name,
            type=_TYPES.get(category) if isinstance(category, int) else None,
        )


def _gold(row: Row, name: str, where: str) -> frozenset[str]:
    """The published evidence spells a few turns as D:3:4 or D3:04, and joins some by ";"."""
    evidence = checked(row.get("evidence") or [], list, f"{where}: evidence")
    named = (item for item in evidence if isinstance(item, str))
    turns = _TURN.findall(" ".join(named))
    return frozenset(f"{name}:D{session}:{turn}" for session, turn in turns)
