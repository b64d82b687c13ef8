"""What a hostile client sends: calls in their proper form, broken ones, and lines that are none.

A call speaks of memories and recalls by number; the model says which they are when it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

TOOLS = ("remember", "recall", "feedback", "forget", "reindex")

FRAGMENTS = [
    *("'", "''", '"', "\\", "\\'", ";", "--", "/*", "*/", "%", "_", "`", "$1", "{}", "\x00"),
    *("' OR true --", "') OR ('1'='1", "'; DROP TABLE memories; --", "' UNION SELECT text"),
    *("null", "NULL", "true", "\ud800", "\udfff", "\ud83d\ude00", "\u202e", "\u200f", "\ufeff"),
    *("\n", "\r\n", "\u2028", "\x85", "\t", "é", "e\u0301", "日本", "שלום", "مرحبا", "🫖", "x"),
    *("../..", "%2e%2e%2f", "%00", "memory://", "file:///etc/passwd", "<|endoftext|>", "[UNK]"),
    *('{"jsonrpc":"2.0"}', "1e999", "NaN", "Content-Length: 5\r\n\r\n", "a AND b", "foo*", '"foo'),
]

NAMES = ["default", "home", "it's", "a'; --", "日本", "\u202ework", "x" * 200, '"', "%", "\x00 n"]
SESSIONS = [None, "monday", "' OR '1'='1", "séance", "s\n2"]
TAGS = ["food", "t'ag", "--", "\x00t", "🫖", "%", "null"]
WHENS = ["0001-01-01", "1066-10-14T09:00:00Z", "1999-12-31T23:59:59.999999+14:00"]
WHENS += ["9999-12-31T23:59:59.999999Z", "4000-02-29", "0001-01-01T00:00:00Z"]
EDGES = ["0001-01-02", "1500-01-01", "2001-01-01", "3500-01-01", "9999-12-31T23:59:59.999998Z"]

fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join)
wild = fragments | st.text(max_size=30) | fragments.map(lambda text: text * 40)
names = st.sampled_from(NAMES)
numbers = st.integers(0, 10_000)
whole_numbers = st.sampled_from([0, -1, 1001, -(2**63), 2**63, 10**30, 10**400])
no_numbers = st.sampled_from(
    ["many", [], {}, 1.5, float("nan"), float("inf"), -float("inf"), 1e300]
)
no_texts = st.sampled_from([5, True, [], {}, ["x"], 1.5, float("nan"), {"text": "x"}])
blanks = st.sampled_from(["", " ", "\n\t", "\u2003", "\u3000"])
too_long = st.sampled_from(["x" * 201, "\x00" * 5_000, "日" * 300])
no_names = no_texts | blanks | too_long
no_moments = st.sampled_from(
    [
        *("soon", "2026-13-01", "0000-01-01", "10000-01-01", "2026-02-30", "-0001-01-01", "1e5"),
        *(
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "9" * 300,
            "' OR 1=1",
            "",
            "\0",
        ),
    ]
)
no_lists = st.sampled_from(["x", 5, {}, [1], [None], [[]], [""], [" "], ["x" * 201], ["x"] * 101])


def deep(depth: int) -> Any:
    """An object within an object, so many times."""
    value: Any = 1
    for _ in range(depth):
        value = {"a'": value}
    return value


scalars = st.sampled_from([None, True, 0, -1.5, 2**53, "x'", "\ud800", "\x00"]) | fragments
metadata = st.dictionaries(fragments, scalars | st.lists(scalars, max_size=2), max_size=3)
metadata |= st.sampled_from([deep(20), {"": ""}, {"list": [[[]]]}])
no_metadata = st.sampled_from([5, "x", [1], {"a": float("nan")}, {"a": [float("inf")]}])


@dataclass(frozen=True, slots=True)
class Remember:
    """Store a text that holds a word of its own; `again` says an earlier one once more."""

    text: str
    rest: Mapping[str, Any]
    again: bool = False
    key: bool = False
    replaces: int | None = None
    pick: int = 0
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Recall:
    """Ask by words of the fuzz, or by the rare word of a memory, within a filter."""

    query: str
    limit: int | None
    pick: int | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Feedback:
    """Judge hits of an earlier recall; a stranger among them is refused."""

    recall: int
    useful: list[int]
    not_useful: list[int]
    stranger: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """Erase memories by number, with ids that no memory has, or by a filter."""

    picks: list[int]
    unknown: list[str]
    where: Mapping[str, Any]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Read:
    """Read a memory as a resource: one that is there, or one that is not."""

    pick: int | None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A request that has to be refused and to change nothing."""

    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Harmless:
    """A request that has to be answered with a result."""

    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Silent:
    """A line that nothing may answer."""

    line: str


@dataclass(frozen=True, slots=True)
class NoMessage:
    """A line that is no message, to be answered with an error."""

    line: bytes


Call = Remember | Recall | Feedback | Forget | Read | Broken | Harmless | Silent | NoMessage


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


remembers = st.builds(
    Remember,
    text=wild | st.just("word " * 400),
    rest=optional(
        namespace=names,
        session=st.sampled_from(SESSIONS),
        speaker=names,
        at=st.sampled_from(WHENS),
        tags=st.lists(st.sampled_from(TAGS), max_size=3),
        source=names,
        metadata=metadata,
    ),
    again=st.integers(0, 3).map(lambda draw: draw == 0),
    key=st.integers(0, 4).map(lambda draw: draw == 0),
    replaces=st.none() | st.none() | numbers,
    pick=numbers,
    cancelled=st.integers(0, 7).map(lambda draw: draw == 0),
)
filters = optional(
    namespace=names,
    session=st.sampled_from(SESSIONS),
    tags=st.lists(st.sampled_from(TAGS), max_size=2),
)
windows = optional(after=st.sampled_from(EDGES[:3]), before=st.sampled_from(EDGES[3:]))
recalls = st.builds(
    Recall,
    query=wild.filter(str.strip),
    limit=st.sampled_from([None, 1, 3, 1000]),
    pick=st.none() | numbers,
    where=st.just({}) | filters | windows,
    more=optional(
        explain=st.booleans(),
        prefer_recent=st.booleans(),
        max_tokens=st.sampled_from([1, 50, 10**9]),
        as_of=st.sampled_from(["0001-01-02", "9999-12-30"]),
    ),
    cancelled=st.integers(0, 9).map(lambda draw: draw == 0),
)
feedbacks = st.builds(
    Feedback,
    recall=numbers,
    useful=st.lists(numbers, max_size=3),
    not_useful=st.lists(numbers, max_size=2),
    stranger=st.none() | st.none() | wild,
)
forgets = st.builds(
    Forget,
    picks=st.lists(numbers, max_size=2),
    unknown=st.lists(fragments.filter(str.strip), max_size=2),
    where=filters,
    dry_run=st.booleans(),
)
reads = st.builds(Read, pick=st.none() | numbers, unknown=wild)


def tool(name: str, **arguments: Any) -> Broken:
    """A call of a tool that has to be refused."""
    return Broken("tools/call", {"name": name, "arguments": arguments})


def refused(name: str, proper: Mapping[str, Any], wrong: str, value: Any) -> Broken:
    """A proper call with one argument that is wrong."""
    return tool(name, **{**proper, wrong: value})


def each_wrong(
    name: str, proper: Mapping[str, Any], **wrong: st.SearchStrategy[Any]
) -> list[st.SearchStrategy[Broken]]:
    """A proper call, each time with another argument that is wrong."""
    return [
        values.map(lambda value, argument=argument: refused(name, proper, argument, value))
        for argument, values in wrong.items()
    ]


texts_refused = no_texts | blanks | st.just("x" * 1_000_001)
broken_tools = st.one_of(
    *each_wrong("remember", {}, text=texts_refused),
    *each_wrong(
        "remember",
        {"text": "never to be stored"},
        namespace=no_names,
        session=no_names,
        speaker=no_names,
        source=no_names,
        at=no_moments | no_texts,
        tags=no_lists,
        metadata=no_metadata,
        replaces=no_names | fragments.map(lambda text: f"no memory {text}"),
    ),
    *each_wrong(
        "recall",
        {"query": "x"},
        query=no_texts | blanks | st.just("x" * 10_001),
        limit=whole_numbers | no_numbers,
        namespace=no_names,
        session=no_names,
        tags=no_lists,
        after=no_moments | no_texts,
        before=no_moments | st.just("0001-01-01T00:00:00+14:00"),
        as_of=no_moments,
        max_tokens=st.sampled_from([0, -1, -(2**63)]) | no_numbers,
        explain=st.sampled_from(["perhaps", 2, [], {}]),
        prefer_recent=st.sampled_from(["perhaps", 2, [], {}]),
    ),
    *each_wrong(
        "feedback",
        {"recall_id": "no recall", "useful": ["x"]},
        recall_id=wild | no_texts,
        useful=no_lists,
        not_useful=no_lists | wild,
    ),
    *each_wrong(
        "forget",
        {},
        ids=no_lists | st.just([]) | st.just([str(number) for number in range(500)]),
        namespace=no_names,
        session=no_names,
        before=no_moments | no_texts,
        tags=no_lists | st.just([]),
        dry_run=st.booleans(),
    ),
    st.just(tool("forget", ids=["x"], namespace="default")),
    *each_wrong("reindex", {}, model=no_texts | fragments.map(lambda text: f"/no/model {text}")),
)
forged = st.builds(
    lambda name, value: tool("remember", text="never to be stored", **{name: value}),
    st.sampled_from(["client", "token", "created", "id", "turn", "replaced_by"]),
    scalars,
)
strange_arguments = st.builds(
    lambda name, argument, value: tool(name, **{f"no {argument}": value}),
    st.sampled_from(TOOLS),
    wild,
    scalars,
)
strange_tools = st.builds(lambda name: tool(f"no {name}"), wild)
broken_params = st.sampled_from(
    [
        {},
        {"name": 5},
        {"name": "recall", "arguments": [1]},
        {"name": "recall", "arguments": "x"},
        {"name": "recall", "arguments": {"query": "x"}, "_meta": 5},
        {"name": None, "arguments": {}},
    ]
).map(lambda params: Broken("tools/call", params))
strange_methods = st.builds(
    lambda name, params: Broken(f"no/{name}", params), wild, st.just({}) | metadata
)
strange_resources = st.builds(
    lambda uri: Broken("resources/read", {"uri": uri}),
    wild.map(lambda text: f"no:{text}")
    | no_texts
    | st.sampled_from(["", "memory://", "byheart://"]),
)
strange_requests = st.sampled_from(
    [
        Broken("initialize", {}),
        Broken("completion/complete", {}),
        Broken("logging/setLevel", {"level": "x"}),
        Broken("resources/read", {}),
        Broken("ping", {"_meta": {"progressToken": [1]}}),
    ]
)
harmless = st.sampled_from(
    [
        Harmless("ping", {}),
        Harmless("ping", {"_meta": {"x'": deep(30)}, "more": 1}),
        Harmless("tools/list", {}),
        Harmless("resources/list", {}),
        Harmless("resources/templates/list", {}),
        Harmless("resources/read", {"uri": "byheart://status"}),
        Harmless("tools/call", {"name": "reindex", "arguments": {}}),
    ]
)


def notification(method: str, params: Any = None) -> Silent:
    """A message without an id."""
    return Silent(json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}}))


silent = st.one_of(
    st.builds(
        lambda name: notification("tools/call", {"name": name, "arguments": {"text": "unasked"}}),
        st.sampled_from(TOOLS),
    ),
    st.builds(lambda name: notification(f"notifications/{name}"), wild),
    st.builds(
        lambda number: notification("notifications/cancelled", {"requestId": number}),
        st.sampled_from(["nobody", -999_999, None, [1], 1.5]),
    ),
    st.sampled_from(["", "   ", "\t"]).map(Silent),
    st.builds(
        lambda number: Silent(json.dumps({"jsonrpc": "2.0", "id": number, "result": {}})),
        st.sampled_from([-999_999, "nobody"]),
    ),
)
no_messages = st.one_of(
    st.sampled_from(
        [
            *(
                b"garbage",
                b"{",
                b"[]",
                b"null",
                b"5",
                b'""',
                b"\x00\x00",
                b"\xff\xfe",
                b"[" * 9_000,
            ),
            b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
            b'{"jsonrpc":"2.0","method":5}',
            b'{"jsonrpc":"2.0","method":"ping","params":[]}',
            b'{"jsonrpc":"1.0","method":"ping"}',
            b'{"method":"ping"}',
            b"Content-Length: 5\r",
        ]
    ),
    st.binary(min_size=1, max_size=40).map(
        lambda line: b"#" + line.replace(b"\n", b"").replace(b"\r", b"")
    ),
).map(NoMessage)

hostile = st.one_of(
    broken_tools,
    forged,
    strange_arguments,
    strange_tools,
    broken_params,
    strange_methods,
    strange_resources,
    strange_requests,
    harmless,
    silent,
    no_messages,
)


def weighted(*choices: tuple[int, st.SearchStrategy[Call]]) -> st.SearchStrategy[Call]:
    """One of several strategies, each as often as its weight says."""
    places = [place for place, (weight, _) in enumerate(choices) for _ in range(weight)]
    return st.sampled_from(places).flatmap(lambda place: choices[place][1])


calls = weighted(
    (77, hostile), (5, remembers), (8, recalls), (3, feedbacks), (2, forgets), (5, reads)
)
