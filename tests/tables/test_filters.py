"""A filter admits exactly what it says, whatever its values contain."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from byheart_store import Filter, InvalidInput, Memory, MemoryStore, NewMemory

from ..conftest import examples

pytestmark = pytest.mark.asyncio(loop_scope="module")

NASTY = [
    "plain", "it's", "''", "'", '"', "\\", "\\'", "' OR true --", "'); DROP TABLE memories; --",
    "%", "_", "a/b c", "日本 🦑", "new\nline", "tab\t", "null", "NULL", "\x00", "é", "e\u0301",
    "$1", "{x}", "x' AND 'x'='x", "/* c */", "true", "a" * 200,
]  # fmt: skip
VALUES: list[Any] = [*NASTY, 0, 1, 1.5, True, None, [1, "x'"], {"k'": '"'}]
DAYS = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
DAYS += [datetime(2026, 3, 14, 9, 30, 0, micro, UTC) for micro in (0, 1, 999_999)]

names = st.sampled_from(NASTY) | st.text(min_size=1, max_size=20).filter(str.strip)
moments = st.sampled_from(DAYS) | st.datetimes(timezones=st.just(UTC))


def in_order(after: Any, before: Any, **others: Any) -> Filter:
    """A filter; where its end is not after its beginning, which is refused, one without end."""
    try:
        return Filter(after=after, before=before, **others)
    except InvalidInput:
        return Filter(after=after, **others)


filters = st.builds(
    in_order,
    namespaces=st.lists(names, max_size=3).map(tuple),
    session=st.none() | names,
    speaker=st.none() | names,
    tags=st.lists(names, max_size=2).map(tuple),
    source=st.none() | names,
    after=st.none() | moments,
    before=st.none() | moments,
    metadata=st.dictionaries(names, st.sampled_from(VALUES) | names, max_size=1),
)
# One condition at a time admits some memories; all at once hardly ever do.
single = st.one_of(
    st.builds(Filter, namespaces=st.lists(names, min_size=1, max_size=4).map(tuple)),
    *(st.builds(Filter, **{name: names}) for name in ("session", "speaker", "source")),
    st.builds(Filter, tags=st.lists(names, min_size=1, max_size=2).map(tuple)),
    st.builds(in_order, after=moments, before=st.none() | moments),
    st.builds(Filter, metadata=st.dictionaries(names, st.sampled_from(VALUES), max_size=1)),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    """Some hundred memories, without vectors: a filter has no use for them."""
    home = tmp_path_factory.mktemp("nasty")
    draw = random.Random(7)
    async with await MemoryStore.open(home, model="no/such-model") as store:
        await store.remember_many([_drawn(draw, number) for number in range(120)])
        yield store


def _drawn(draw: random.Random, number: int) -> NewMemory:
    name = NASTY[number % len(NASTY)]
    return NewMemory(
        text=f"word {number} {name}",
        namespace=name,
        session=draw.choice([None, *NASTY]),
        speaker=draw.choice([None, *NASTY]),
        tags=tuple(draw.sample(NASTY, draw.randrange(4))),
        source=draw.choice([None, *NASTY]),
        at=draw.choice([None, *DAYS]),
        metadata={key: draw.choice(VALUES) for key in draw.sample(NASTY, draw.randrange(4))},
    )


def _admits(where: Filter, memory: Memory) -> bool:
    """What a filter means, in Python."""
    equal = all(
        getattr(where, name) in (None, getattr(memory, name))
        for name in ("session", "speaker", "source")
    )
    kept = {key: json.dumps(value, sort_keys=True) for key, value in memory.metadata.items()}
    wanted = {key: json.dumps(value, sort_keys=True) for key, value in where.metadata.items()}
    after = where.after is None or (memory.at is not None and memory.at >= where.after)
    before = where.before is None or (memory.at is not None and memory.at < where.before)
    return (
        equal
        and after
        and before
        and (not where.namespaces or memory.namespace in where.namespaces)
        and set(where.tags) <= set(memory.tags)
        and wanted.items() <= kept.items()
    )


async def admitted(store: MemoryStore, where: Filter) -> set[str]:
    return {memory.id async for memory in store.memories(where)}


@settings(examples(150), derandomize=True)
@given(where=single | filters)
async def test_a_filter_admits_exactly_what_it_says(nasty: MemoryStore, where: Filter) -> None:
    expected = {memory.id async for memory in nasty.memories() if _admits(where, memory)}
    assert await admitted(nasty, where) == expected


@pytest.mark.parametrize("name", NASTY)
async def test_no_value_breaks_out_of_its_quotes(nasty: MemoryStore, name: str) -> None:
    where = Filter(namespaces=(name,))
    hits = (await nasty.recall("word", where=where, limit=1000, mode="text")).hits
    assert hits
    assert {hit.memory.namespace for hit in hits} == {name}
    assert {hit.id for hit in hits} == await admitted(nasty, where)


@pytest.mark.parametrize("name", NASTY)
async def test_forget_by_filter_takes_the_same_memories(nasty: MemoryStore, name: str) -> None:
    where = Filter(tags=(name,))
    forgotten = await nasty.forget(where=where, dry_run=True)
    assert set(forgotten.ids) == await admitted(nasty, where) != set()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def diary(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    days = [datetime(2026, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
    batch = [
        NewMemory(id="a", text="walked home", namespace="n1", session="s", at=days[0]),
        NewMemory(id="b", text="walked out", namespace="n2", session="s", at=days[1], tags=("x",)),
        NewMemory(id="c", text="walked far", namespace="n2", at=days[2], tags=("x", "y")),
        NewMemory(
            id="d", text="walked once", speaker="Bo", source="web", metadata={"n": 1, "m": 2}
        ),
    ]
    async with await MemoryStore.open(tmp_path_factory.mktemp("diary")) as store:
        await store.remember_many(batch)
        yield store


def day(number: int) -> datetime:
    return datetime(2026, 3, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), "abcd"),
        (Filter(namespaces=("n2",)), "bc"),
        (Filter(namespaces=("n1", "default")), "ad"),
        (Filter(session="s"), "ab"),
        (Filter(session="s", namespaces=("n2",)), "b"),
        (Filter(speaker="Bo"), "d"),
        (Filter(speaker="bo"), ""),
        (Filter(source="web"), "d"),
        (Filter(tags=("x",)), "bc"),
        (Filter(tags=("y", "x")), "c"),
        (Filter(after=day(2)), "bc"),
        (Filter(before=day(2)), "a"),
        (Filter(after=day(1), before=day(3)), "ab"),
        (Filter(after=day(2).astimezone(timezone(timedelta(hours=9)))), "bc"),
        (Filter(after=datetime(2026, 3, 2)), "bc"),
        (Filter(metadata={"n": 1}), "d"),
        (Filter(metadata={"n": 1, "m": 2}), "d"),
        (Filter(metadata={"n": 1, "m": 3}), ""),
        (Filter(metadata={"n": "1"}), ""),
    ],
)
@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
async def test_recall_stays_within_the_filter(
    diary: MemoryStore, where: Filter, expected: str, mode: str
) -> None:
    hits = (await diary.recall("who walked?", where=where, mode=mode)).hits  # type: ignore[arg-type]
    assert sorted(hit.id for hit in hits) == list(expected)


async def test_forgetting_by_filter_forgets_replaced_ones_too(store: MemoryStore) -> None:
    old = await store.remember(NewMemory(text="Berlin", namespace="n"))
    new = await store.remember(NewMemory(text="Bonn", replaces=old.id))
    forgotten = await store.forget(where=Filter(namespaces=("n",)))
    assert sorted(forgotten.ids) == sorted([old.id, new.id])
    assert await admitted(store, Filter(include_replaced=True)) == set()


async def test_ids_and_a_filter_together_are_refused(diary: MemoryStore) -> None:
    with pytest.raises(InvalidInput, match="either ids or a filter"):
        await diary.forget(["a"], where=Filter(session="s"))


async def test_memories_come_by_namespace_session_and_turn(diary: MemoryStore) -> None:
    memories = [memory async for memory in diary.memories()]
    assert [memory.id for memory in memories] == ["d", "a", "b", "c"]
    assert all(x.namespace <= y.namespace for x, y in itertools.pairwise(memories))
