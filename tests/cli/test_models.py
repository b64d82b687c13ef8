"""models: what there is, what serves, a promotion that a report allows, and the way back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byheart_store.models.passages import EMBEDDED
from byheart_store.ranking.tuning import DEFAULT_TUNING

from ..conftest import Call

EMBEDDED_NAME = "all-MiniLM-L6-v2"
REASON = "Refused: NDCG@10 changes by -0.010 (-0.030 to +0.010) over 40 test queries."

Train = Callable[..., Path]


def report(*, passed: bool) -> dict[str, Any]:
    gain = {"mean": 0.05, "low": 0.02, "high": 0.08} if passed else {"mean": -0.01, "low": -0.03}
    gains = {"ndcg@10": {"high": 0.01} | gain, "recall@1": {"mean": 0.04, "low": 0, "high": 0.1}}
    return {
        "verdict": {"promoted": passed, "reason": "Passed: a gain." if passed else REASON},
        "scores": {"gain": gains},
        "labels": {"test": 40},
    }


@pytest.fixture
def train(home: Path) -> Train:
    """Leaves a model folder as a retraining does, without one; `pooling` tells it from others."""

    def trained(name: str, *, passed: bool | None = True, pooling: str = "cls") -> Path:
        folder = shutil.copytree(EMBEDDED, home / "models" / name)
        manifest = json.loads((folder / "byheart.json").read_text())
        tuning = DEFAULT_TUNING.as_dict()
        changed = manifest | {"pooling": pooling, "tuning": tuning}
        (folder / "byheart.json").write_text(json.dumps(changed))
        if passed is not None:
            (folder / "report.json").write_text(json.dumps(report(passed=passed)))
        return folder

    return trained


def remember(byheart: Call) -> None:
    for text in ("The lift code is blue.", "The lift is serviced in May."):
        assert byheart("remember", text).code == 0


def states(byheart: Call) -> dict[str, str]:
    found = byheart("models", "list", "--json").json["models"]
    return {Path(one["model"]).name: one["state"] for one in found}


class TestList:
    def test_a_new_store_has_none(self, byheart: Call) -> None:
        assert byheart("models", "list", "--json").json == {"models": []}
        assert byheart("models", "list").out.startswith("no model yet")

    def test_those_of_the_store_come_first_then_what_was_trained(
        self, byheart: Call, train: Train
    ) -> None:
        remember(byheart)
        for name, passed in (("good", True), ("bad", False), ("unjudged", None)):
            train(name, passed=passed)
        assert states(byheart) == {EMBEDDED_NAME: "serves", "bad": "refused", "good": "passed"}

    def test_json_tells_the_path_and_the_verdict(self, byheart: Call, train: Train) -> None:
        remember(byheart)
        folder = train("good")
        own, found = byheart("models", "list", "--json").json["models"]
        assert (own["model"], own["embedded"], own["passages"]) == (EMBEDDED_NAME, 2, 2)
        assert own["verdict"] is None
        assert (found["model"], found["embedded"]) == (str(folder), 0)
        assert found["verdict"]["passed"] is True
        assert found["verdict"]["gain"]["ndcg@10"] == {"mean": 0.05, "low": 0.02, "high": 0.08}
        assert found["verdict"]["questions"] == 40

    def test_the_table_is_aligned_and_marks_what_serves(self, byheart: Call, train: Train) -> None:
        remember(byheart)
        train("good")
        head, serves, other = byheart("models", "list").out.splitlines()
        assert head.split()[:2] == ["model", "state"]
        assert serves.split() == ["*", EMBEDDED_NAME, "serves", "-", "-", "-", "-", "2"]
        assert "+0.050 [+0.020, +0.080]" in other
        assert len({len(row.rstrip()) for row in (head, serves, other)}) == 1

    def test_a_report_that_is_none_is_told_in_one_line(self, byheart: Call, train: Train) -> None:
        (train("good") / "report.json").write_text("{}")
        outcome = byheart("models", "list")
        assert (outcome.code, outcome.out) == (2, "")
        assert "report.json is no report of a retraining" in outcome.err


class TestPromote:
    def test_what_passed_serves_and_the_way_back_is_told(self, byheart: Call, train: Train) -> None:
        remember(byheart)
        folder = train("good")
        outcome = byheart("models", "promote", "good")
        assert outcome.code == 0
        assert outcome.out == (
            f"{folder} serves now; 2 passages had to be embedded\n"
            f"to go back to {EMBEDDED_NAME}: byheart models rollback\n"
        )
        assert byheart("stats", "--json").json["model"] == str(folder)
        assert states(byheart) == {"good": "serves", EMBEDDED_NAME: "previous"}

    def test_a_folder_may_lie_anywhere(self, byheart: Call, train: Train, tmp_path: Path) -> None:
        remember(byheart)
        folder = shutil.move(train("good"), tmp_path / "elsewhere")
        done = byheart("models", "promote", folder, "--json").json
        assert done == {
            "model": str(folder),
            "previous": EMBEDDED_NAME,
            "changed": True,
            "rows": 2,
        }

    def test_what_serves_already_is_left_as_it_is(self, byheart: Call, train: Train) -> None:
        remember(byheart)
        train("good")
        byheart("models", "promote", "good")
        outcome = byheart("models", "promote", "good")
        assert (outcome.code, outcome.out.count("\n")) == (0, 1)
        assert "serves already" in outcome.out
        assert byheart("models", "promote", "good", "--json").json["changed"] is False

    def test_what_was_refused_stays_refused_with_the_reason(
        self, byheart: Call, train: Train
    ) -> None:
        remember(byheart)
        train("bad", passed=False)
        outcome = byheart("models", "promote", "bad")
        assert (outcome.code, outcome.out) == (2, "")
        assert REASON.rstrip(".") in outcome.err
        assert "--force" in outcome.err
        assert states(byheart) == {EMBEDDED_NAME: "serves", "bad": "refused"}

    def test_what_was_never_judged_is_refused(self, byheart: Call, train: Train) -> None:
        remember(byheart)
        train("unjudged", passed=None)
        outcome = byheart("models", "promote", "unjudged")
        assert outcome.code == 2
        assert "holds no report.json" in outcome.err
        assert states(byheart) == {EMBEDDED_NAME: "serves"}

    @pytest.mark.parametrize("passed", [False, None])
    def test_force_promotes_all_the_same(
        self, byheart: Call, train: Train, passed: bool | None
    ) -> None:
        remember(byheart)
        train("bad", passed=passed)
        assert byheart("models", "promote", "bad", "--force").code == 0
        assert states(byheart)["bad"] == "serves"

    def test_a_name_that_is_no_folder_is_told_where_to_look(self, byheart: Call) -> None:
        outcome = byheart("models", "promote", "absent")
        assert outcome.code == 2
        assert "byheart models list" in outcome.err


class TestRollback:
    def test_the_model_before_serves_again_and_knows_what_came_later(
        self, byheart: Call, train: Train
    ) -> None:
        remember(byheart)
        folder = train("good")
        byheart("models", "promote", "good")
        byheart("remember", "The lift was repaired in June.")
        outcome = byheart("models", "rollback")
        assert outcome.out == (
            f"{EMBEDDED_NAME} serves now\nto go back to {folder}: byheart models rollback\n"
        )
        own, _ = byheart("models", "list", "--json").json["models"]
        assert (own["model"], own["state"], own["embedded"]) == (EMBEDDED_NAME, "serves", 3)

    def test_a_second_one_undoes_the_first(self, byheart: Call, train: Train) -> None:
        remember(byheart)
        folder = train("good")
        byheart("models", "promote", "good")
        byheart("models", "rollback")
        assert byheart("models", "rollback", "--json").json["model"] == str(folder)

    def test_without_a_model_before_there_is_nothing_to_go_back_to(self, byheart: Call) -> None:
        remember(byheart)
        outcome = byheart("models", "rollback")
        assert (outcome.code, outcome.out) == (2, "")
        assert "no other model before" in outcome.err
