from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from byheart_store import Filter, InvalidInput, NewMemory, parse_time
from byheart_store.inputs import as_utf8, checked_limit, checked_query
from byheart_store.moments import uuid7
from byheart_store.records import NAME_FIELDS, TIME_FIELDS
from byheart_store.tables.schema import MEMORY_COLUMNS, memories_schema

any_text = st.text(st.characters(codec=None), max_size=50)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def refusal(**fields: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        NewMemory(**{"text": "tea", **fields})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_an_empty_text_is_refused(text: str) -> None:
    assert refusal(text=text) == "text: is empty; give the words to remember"


def test_a_text_holds_a_million_characters_and_no_more() -> None:
    assert len(NewMemory(text="x" * 1_000_000).text) == 1_000_000
    assert "store it in parts" in refusal(text="x" * 1_000_001)


@given(any_text)
@example("")
@example("\ud800")
@example("a\udfffb\x00")
def test_any_text_becomes_storable(text: str) -> None:
    stored = as_utf8(text)
    assert stored.encode().decode() == stored
    assert len(stored) <= len(text)


@given(st.text())
def test_well_formed_text_is_kept_as_it_is(text: str) -> None:
    assert as_utf8(text) == text


def test_surrogates_are_joined_or_replaced() -> None:
    assert as_utf8("\ud83e\udd91") == "🦑"
    assert NewMemory(text="tea \ud800", speaker="\udfff").text == "tea \ufffd"


@pytest.mark.parametrize("name", ["namespace", "session", "speaker", "source", "replaces", "id"])
def test_a_name_is_short_and_says_something(name: str) -> None:
    assert refusal(**{name: " "}).startswith(f"{name}: is empty")
    assert "at most 200" in refusal(**{name: "x" * 201})
    assert getattr(NewMemory(text="tea", **{name: "work/✨ \x00'"}), name) == "work/✨ \x00'"


def test_tags_are_kept_once_in_their_order() -> None:
    assert NewMemory(text="tea", tags=("b", "a", "b")).tags == ("b", "a")


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (tuple(f"t{n}" for n in range(10_000)), "10,000 given, at most 100"),
        (("",), "tags: is empty"),
        (("x" * 201,), "at most 200"),
        ("food", "give a list of texts"),
    ],
)
def test_tags_that_are_none_are_refused(tags: Any, reason: str) -> None:
    assert reason in refusal(tags=tags)
    with pytest.raises(InvalidInput, match="tags"):
        Filter(tags=tags)


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=4))
def test_metadata_is_kept_as_json_reads_it(metadata: dict[str, Any]) -> None:
    assert NewMemory(text="tea", metadata=metadata).metadata == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": math.nan},
        {"x": math.inf},
        {"x": object()},
        {"x": b"bytes"},
        {("a",): 1},
        {"x": {1, 2}},
    ],
)
def test_metadata_that_is_no_json_is_refused(metadata: Any) -> None:
    assert refusal(metadata=metadata).startswith("metadata: is no JSON object")


def test_metadata_that_holds_itself_is_refused() -> None:
    metadata: dict[str, Any] = {}
    metadata["self"] = metadata
    assert "metadata" in refusal(metadata=metadata)


def test_metadata_has_an_end() -> None:
    assert "at most 100,000" in refusal(metadata={"x": "y" * 100_001})


@pytest.mark.parametrize("turn", [-1, 2**31, 10**30])
def test_a_turn_that_can_not_be_counted_is_refused(turn: int) -> None:
    assert "turn" in refusal(turn=turn)


def test_a_memory_does_not_replace_itself() -> None:
    assert "can't replace itself" in refusal(id="m1", replaces="m1")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-14", datetime(2026, 3, 14, tzinfo=UTC)),
        (" 2026-03-14T09:30:00Z ", datetime(2026, 3, 14, 9, 30, tzinfo=UTC)),
        ("2026-03-14T09:30+02:00", datetime(2026, 3, 14, 7, 30, tzinfo=UTC)),
        ("2026-03-14T09:30", datetime(2026, 3, 14, 9, 30, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31", datetime(9999, 12, 31, tzinfo=UTC)),
        (date(2026, 3, 14), datetime(2026, 3, 14, tzinfo=UTC)),
    ],
)
def test_a_date_is_read_as_utc(text: str | date, moment: datetime) -> None:
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-13-01", "2026-02-30", "14.03.2026", "10000-01-01", "\x00", "1" * 3],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"at: .*is no date; write 2026-03-14"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00"])
def test_a_year_beyond_utc_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="outside the years 1 to 9999"):
        parse_time(text)


@given(any_text)
def test_any_text_is_a_date_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert parse_time(text).tzinfo is UTC


def test_a_moment_without_a_zone_is_utc_everywhere() -> None:
    naive, tokyo = datetime(2026, 3, 14, 9), timezone(timedelta(hours=9))
    assert NewMemory(text="tea", at=naive).at == datetime(2026, 3, 14, 9, tzinfo=UTC)
    assert Filter(after=naive).after == datetime(2026, 3, 14, 9, tzinfo=UTC)
    local = datetime(2026, 3, 14, 18, tzinfo=tokyo)
    assert NewMemory(text="tea", at=local).at == datetime(2026, 3, 14, 9, tzinfo=UTC)


@pytest.mark.parametrize("limit", [0, -5, 1001, 1_000_000])
def test_a_limit_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(InvalidInput, match="must be from 1 to 1000"):
        checked_limit(limit)


@pytest.mark.parametrize("query", ["", "  \n", "x" * 10_001])
def test_a_query_asks_something(query: str) -> None:
    with pytest.raises(InvalidInput, match="query"):
        checked_query(query)


def test_ids_sort_by_the_time_they_were_made() -> None:
    ids = [uuid7() for _ in range(1000)]
    assert sorted(ids) == ids
    assert len(set(ids)) == 1000


def test_a_filter_tells_whether_it_narrows() -> None:
    assert not Filter(include_replaced=True).narrows
    assert Filter(metadata={"k": None}).narrows
    assert Filter(session="s").as_dict() == {"session": "s"}


def test_a_filter_that_nothing_can_pass_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing can lie between"):
        Filter(after=parse_time("2026-03-02"), before=parse_time("2026-03-01"))


def test_the_fields_that_are_derived_are_these() -> None:
    assert NAME_FIELDS == (
        "namespace",
        "session",
        "speaker",
        "source",
        "replaces",
        "replaced_by",
        "id",
        "key",
        "client",
        "token",
    )
    assert TIME_FIELDS == ("at", "replaced_at", "created")


def test_the_columns_of_a_memory_are_part_of_the_format() -> None:
    assert MEMORY_COLUMNS == (
        "id",
        "text",
        "namespace",
        "session",
        "turn",
        "speaker",
        "at",
        "tags",
        "source",
        "metadata",
        "created",
        "replaces",
        "replaced_by",
        "replaced_at",
        "client",
        "token",
    )
    assert set(MEMORY_COLUMNS) <= set(memories_schema().names)
