"""What the measurements are told by: fast, and so not among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .figures import TARGETS, Conditions, Figure, Figures, table, write_json


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    sheet: list[Figure] = []
    Figures(sheet).record("growth", None, "ms", [2, 20, 9], [1, 10, 9], "floor")
    assert (sheet[0].value, sheet[0].floor, sheet[0].ratio) == (9, 9, 2)


def test_a_setback_is_kept_and_then_fails() -> None:
    sheet: list[Figure] = []
    figures = Figures(sheet)
    figures.record("recall p50", 100_000, "ms", [36], [10], "embedding + slower leg")
    with pytest.raises(AssertionError, match=r"recall p50 at 100,000: 36.0 ms.*ratio 3.60"):
        figures.hold()
    assert [figure.verdict for figure in sheet] == ["SETBACK"]


def test_a_missed_target_is_told_and_does_not_fail() -> None:
    sheet: list[Figure] = []
    figures = Figures(sheet)
    figures.record("recall p50", 100_000, "ms", [16], [10], "embedding + slower leg")
    figures.hold()
    assert [figure.verdict for figure in sheet] == ["MISSED"]


def test_a_limit_is_never_stricter_than_its_target() -> None:
    for target in (target for targets in TARGETS.values() for target in targets):
        if target.limit is not None:
            low, high = sorted((target.limit, target.bound))
            assert target.bound == (high if target.is_least else low)


def test_a_held_target_and_a_figure_without_one_do_not_fail() -> None:
    figures = Figures([])
    figures.record("import", None, "/s", [85], [100], "encoder")
    figures.record("recall p50", 1_000, "ms", [16], [10], "embedding + slower leg")
    figures.hold()


def test_a_target_of_a_ratio_is_missed_where_there_is_no_floor() -> None:
    figures = Figures([])
    figures.record("import", None, "/s", [85])
    with pytest.raises(AssertionError):
        figures.hold()


def test_the_columns_of_the_table_line_up() -> None:
    sheet: list[Figure] = []
    for size in (1_000_000, 50):
        Figures(sheet).record("recall p50", size, "ms", [1234.5], [0.5], "floor")
    first, small, large = table(sheet)
    assert small.index("floor") == large.index("floor") == first.index("floor is")
    assert (small.index("ms"), "50" in small) == (large.index("ms"), True)


def test_everything_is_written_as_json(tmp_path: Path) -> None:
    sheet: list[Figure] = []
    Figures(sheet).record("import", None, "/s", [80, 90], [100, 100], "encoder")
    write_json(tmp_path / "new" / "figures.json", sheet, Conditions())
    written = json.loads((tmp_path / "new" / "figures.json").read_text())
    (figure,) = written["figures"]
    assert figure["rounds"] == [80, 90]
    assert (figure["targets"], figure["verdict"]) == ([">= 0.85 x"], "held")
    assert {"byheart", "lancedb"} <= written["versions"].keys()


def test_every_target_is_of_a_figure_that_some_test_records() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    recorded = sources.replace(Path(__file__).read_text(), "")
    assert [name for name, _ in TARGETS if f'"{name}"' not in recorded] == []
