"""What lies beside a trained model: figures for people and programs, and not one text."""

from __future__ import annotations

import json
import math
import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from byheart_retrain.evaluation import decide
from byheart_retrain.evaluation.guard import guarded
from byheart_retrain.evaluation.metrics import intervals
from byheart_retrain.publishing.model_card import card, hub_id
from byheart_retrain.publishing.pictures import draw
from byheart_retrain.publishing.report import Mean, Report, RerankerReport
from byheart_retrain.publishing.report_files import publish_report, write_card, write_report

if TYPE_CHECKING:
    from byheart_retrain.evaluation.metrics import Floats

pytest.importorskip("matplotlib")

PICTURES = {"gain-per-query.png", "by-type.png", "training.png"}
METRICS = ("ndcg@10", "recall@1", "recall@5", "mrr")


def mean(values: Floats) -> Mean:
    return intervals(values[:, None])[0].as_dict()


@pytest.fixture
def report(whole: Report) -> Report:
    """A report of a training, to be changed."""
    return deepcopy(whole)


@pytest.fixture(scope="module")
def whole() -> Report:
    draw = np.random.default_rng(0)
    before = draw.uniform(0, 0.8, 60)
    after = before + np.where(draw.random(60) < 0.4, 0.2, 0.0)
    verdict = decide({"ndcg@10": before, "recall@1": before}, {"ndcg@10": after, "recall@1": after})
    sides = {"before": before, "after": after, "gain": after - before}
    return Report(
        name="my-memories",
        base="all-MiniLM-L6-v2",
        command="byheart retrain --output DIR",
        seed=3,
        seconds={"mining": 2.0, "training": 61.5, "export": 8.0, "embedding": 9.0, "gate": 1.0},
        labels={
            "queries": 300,
            "labels": 412,
            "by_source": {"the recall log": 400, "files": 12},
            "train": 200,
            "dev": 40,
            "test": 60,
        },
        mining={"examples": 700},
        training={
            "epochs": 4,
            "learning_rate": 6e-5,
            "curve": [{"step": 5, "loss": 1.2}, {"step": 10, "dev": 0.5}, {"step": 10, "loss": 1}],
        },
        tuning={"fusion": {"vector": 0.6}},
        scores={
            "before": dict.fromkeys(METRICS, mean(before)),
            "after": dict.fromkeys(METRICS, mean(after)),
            "gain": dict.fromkeys(METRICS, mean(after - before)),
        },
        by_type={
            "temporal": {
                "queries": 20,
                "before": mean(before[:20]),
                "after": mean(after[:20]),
                "gain": mean(sides["gain"][:20]),
            }
        },
        gains=sorted(sides["gain"].tolist()),
        guards=[guarded("known items", before, before - 0.05).as_dict()],
        verdict=verdict.as_dict(),
        latency_ms={"before": {"p50": 4.0, "p99": 9.0}, "after": {"p50": 4.1, "p99": 9.2}},
        parity={"fp32_least": 1.0, "int8_mean": 0.992},
    )


class TestTheFolder:
    def test_it_gets_a_report_a_card_and_pictures(self, report: Report, tmp_path: Path) -> None:
        publish_report(tmp_path, report)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"report.json", "README.md", *PICTURES}

    def test_the_report_is_read_back_as_it_was(self, report: Report, tmp_path: Path) -> None:
        write_report(tmp_path, report)
        assert json.loads((tmp_path / "report.json").read_text()) == report

    def test_a_figure_that_json_can_not_hold_is_refused(
        self, report: Report, tmp_path: Path
    ) -> None:
        report["gains"] = [math.nan]
        with pytest.raises(ValueError, match="JSON"):
            write_report(tmp_path, report)

    def test_the_card_of_the_trainer_which_quotes_examples_is_replaced(
        self, report: Report, tmp_path: Path
    ) -> None:
        (tmp_path / "README.md").write_text("widget: where is my passport?")
        write_card(tmp_path, report)
        assert "passport" not in (tmp_path / "README.md").read_text()


class TestTheCard:
    def test_it_begins_as_the_hub_reads_it(self, report: Report) -> None:
        front = card(report).split("---\n")[1]
        assert front == (
            'license: "apache-2.0"\n'
            'base_model: "sentence-transformers/all-MiniLM-L6-v2"\n'
            "library_name: sentence-transformers\n"
            "pipeline_tag: sentence-similarity\n"
            "tags:\n"
            "- sentence-transformers\n"
            "- sentence-similarity\n"
            "- feature-extraction\n"
            "- byheart\n"
        )

    def test_it_has_all_sections(self, report: Report) -> None:
        assert re.findall("^## (.*)$", card(report), re.M) == [
            "What it is for, and what not",
            "Data",
            "Results",
            "Results by type of question",
            "Guards",
            "Training",
            "Latency",
            "Limits",
            "How to use",
            "How to reproduce",
        ]

    def test_it_tells_the_verdict_the_scores_and_the_guard_that_failed(
        self, report: Report
    ) -> None:
        text = card(report)
        assert report["verdict"]["reason"] in text
        gain = report["scores"]["gain"]["ndcg@10"]
        assert f"| {gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}) |" in text
        assert "+0.050 (+0.050 to +0.050) | 0.020 | **no** |" in text
        assert "| fitted: fusion.vector | 0.6 |" in text
        assert "    byheart retrain --output DIR\n" in text

    def test_it_shows_the_pictures_that_lie_there(self, report: Report) -> None:
        assert "![gain-per-query](gain-per-query.png)" in card(report, PICTURES)
        assert ".png" not in card(report)

    def test_every_row_of_a_table_has_its_columns(self, report: Report) -> None:
        report["by_type"] = {"a|b\nc": report["by_type"]["temporal"]}
        for table in re.findall(r"(?:^\|.*\n)+", card(report), re.M):
            columns = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(columns) == 1

    def test_what_was_not_measured_is_called_so(self, report: Report) -> None:
        nothing: Mean = {"mean": None, "low": None, "high": None}
        report["scores"]["gain"] = dict.fromkeys(METRICS, nothing)
        assert "| not measured |" in card(report)

    def test_a_reranker_has_a_section_of_its_own(self, report: Report) -> None:
        report["reranker"] = RerankerReport(
            base="cross-encoder/ms-marco-MiniLM-L6-v2",
            scores=report["scores"],
            verdict={"promoted": True, "reason": "Passed: it reads well."},
        )
        text = card(report)
        assert "## Reranker\n\nA cross-encoder, trained from cross-encoder/ms-marco" in text
        assert "Passed: it reads well." in text

    @pytest.mark.parametrize(
        ("base", "known"),
        [
            ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
            ("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
            ("/home/ana/models/mine", None),
            ("./models/mine", None),
        ],
    )
    def test_only_a_base_of_the_hub_is_named_by_its_place(
        self, report: Report, base: str, known: str | None
    ) -> None:
        report["base"] = base
        assert hub_id(base) == known
        assert "/home/ana" not in card(report)


class TestPictures:
    def test_each_is_a_picture(self, report: Report, tmp_path: Path) -> None:
        assert set(draw(tmp_path, report)) == PICTURES
        for name in PICTURES:
            content = (tmp_path / name).read_bytes()
            assert content.startswith(b"\x89PNG")
            assert len(content) > 5_000

    def test_without_a_training_there_is_none_of_it(self, report: Report, tmp_path: Path) -> None:
        report["training"] = {}
        assert set(draw(tmp_path, report)) == PICTURES - {"training.png"}

    @pytest.mark.parametrize("gains", [[0.0] * 40, [0.1] * 40, [-0.1] * 40, [-0.2, 0.3]])
    def test_any_gains_can_be_drawn(
        self, report: Report, tmp_path: Path, gains: list[float]
    ) -> None:
        report["gains"] = gains
        assert "gain-per-query.png" in draw(tmp_path, report)

    def test_a_type_may_have_any_name(self, report: Report, tmp_path: Path) -> None:
        row = report["by_type"]["temporal"]
        report["by_type"] = {"$5 or $": row, "日本語": row, "x" * 300: row}
        assert "by-type.png" in draw(tmp_path, report)
