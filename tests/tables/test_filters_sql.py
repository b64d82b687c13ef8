"""Filters as SQL: what the text says, and that no value gets out of its quotes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from byheart_store import Filter, Memory, MemoryStore, NewMemory, UnknownMemory
from byheart_store.tables.filters import listed, metadata_terms, quoted, to_sql

from ..conftest import examples

# What closes a literal, opens another, comments the rest out, or admits everything.
PIECES = [
    *(
        "'",
        "''",
        '"',
        "`",
        "\\",
        "\\'",
        ")",
        "(",
        "))",
        "]",
        ";",
        "--",
        "/*",
        "*/",
        "#",
        ",",
        "\x00",
    ),
    *(
        " OR true",
        " OR 1=1",
        " AND false",
        " IS NULL",
        " = ",
        "id",
        "x",
        "E'",
        "$$",
        "%",
        "\n",
        "é",
    ),
    *(" UNION SELECT text FROM memories", "; DROP TABLE memories", "namespace", "true", "NULL"),
]
payloads = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join).filter(str.strip)


def drawn(draw: random.Random) -> str:
    """A payload from the same pieces, as stored memories have them."""
    text = "".join(draw.choices(PIECES, k=draw.randint(1, 2)))
    return text if text.strip() else "'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MemoryStore]:
    """Memories whose every name is a payload, without vectors: a filter has no use for them."""
    draw = random.Random(11)
    names = list(dict.fromkeys([*PIECES[:-1], *(drawn(draw) for _ in range(60))]))
    kept = [
        NewMemory(
            id=name,
            text=f"memory {name}",
            namespace=drawn(draw),
            session=drawn(draw),
            speaker=drawn(draw),
            source=drawn(draw),
            tags=(drawn(draw), drawn(draw)),
            metadata={drawn(draw): drawn(draw)},
        )
        for name in names
        if name.strip()
    ]
    home = tmp_path_factory.mktemp("hostile")
    async with await MemoryStore.open(home, model="no/such-model") as store:
        await store.remember_many(kept)
        yield store


async def admitted(store: MemoryStore, where: Filter) -> set[str]:
    return {memory.id async for memory in store.memories(where)}


async def all_of(store: MemoryStore) -> list[Memory]:
    return [memory async for memory in store.memories()]


@pytest.mark.asyncio(loop_scope="module")
@examples(40)
@given(value=payloads, other=payloads)
async def test_a_hostile_value_admits_only_what_equals_it(
    hostile: MemoryStore, value: str, other: str
) -> None:
    memories = await all_of(hostile)
    for name in ("session", "speaker", "source"):
        equal = {memory.id for memory in memories if getattr(memory, name) == value}
        assert await admitted(hostile, Filter(**{name: value})) == equal
    within = {memory.id for memory in memories if memory.namespace in (value, other)}
    tagged = {memory.id for memory in memories if value in memory.tags}
    paired = {memory.id for memory in memories if memory.metadata.get(value) == other}
    assert await admitted(hostile, Filter(namespaces=(value, other))) == within
    assert await admitted(hostile, Filter(tags=(value,))) == tagged
    assert await admitted(hostile, Filter(metadata={value: other})) == paired


@pytest.mark.asyncio(loop_scope="module")
@examples(40)
@given(value=payloads, other=payloads)
async def test_a_hostile_id_names_only_the_memory_that_has_it(
    hostile: MemoryStore, value: str, other: str
) -> None:
    known = {memory.id for memory in await all_of(hostile)}
    found = await hostile.forget([value, other], dry_run=True)
    assert set(found.ids) == known & {value, other}
    assert set(found.missing) == {value, other} - known
    if value in known:
        assert (await hostile.get(value)).id == value
        return
    with pytest.raises(UnknownMemory):
        await hostile.get(value)
    with pytest.raises(UnknownMemory):
        await hostile.remember(NewMemory(text="not to be stored", replaces=value))


@given(payloads | st.text())
def test_a_literal_ends_where_its_text_ends(text: str) -> None:
    literal = quoted(text)
    inside = literal[1:-1].replace("''", "")
    assert literal[0] == literal[-1] == "'"
    assert "'" not in inside
    assert literal[1:-1].replace("''", "'") == text


@pytest.mark.parametrize(
    ("text", "literal"), [("a", "'a'"), ("it's", "'it''s'"), ("\\", "'\\'"), ("''", "''''''")]
)
def test_only_the_quote_is_doubled(text: str, literal: str) -> None:
    assert quoted(text) == literal


def test_a_list_is_quoted_item_by_item() -> None:
    assert listed(["a", "b'"]) == "('a', 'b''')"


def test_no_condition_hides_only_what_was_replaced() -> None:
    assert to_sql(Filter()) == "replaced_by IS NULL"
    assert to_sql(Filter(include_replaced=True)) == "true"


def test_conditions_are_joined_by_and() -> None:
    sql = to_sql(Filter(session="s", tags=("a", "b"), include_replaced=True))
    assert sql == "session = 's' AND array_has(tags, 'a') AND array_has(tags, 'b')"


def test_moments_are_written_in_utc() -> None:
    sql = to_sql(Filter(before=datetime(2026, 1, 2, tzinfo=UTC), include_replaced=True))
    assert sql == "at < TIMESTAMP '2026-01-02T00:00:00.000000+00:00'"


def test_equal_metadata_gives_equal_terms() -> None:
    assert metadata_terms({"k": {"a": 1, "b": "é"}}) == metadata_terms({"k": {"b": "é", "a": 1}})
    assert metadata_terms({"k": 1}) != metadata_terms({"k": "1"})
