from datetime import UTC, datetime

import pytest

from byheart_store import Filter
from byheart_store.filters import listed, metadata_terms, quoted, to_sql


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
