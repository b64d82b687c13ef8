"""The scripts under examples/ run as their READMEs say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CURVES = Path(__file__).parents[2] / "examples" / "curves" / "curves.py"
PNG = b"\x89PNG\r\n\x1a\n"

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="the pictures need matplotlib; run: pip install matplotlib",
)


def curves(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CURVES), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.slow
@needs_matplotlib
class TestCurves:
    def test_both_pictures_are_drawn_and_their_numbers_printed(
        self, benchmark_folder: Path, shared_home: Path, tmp_path: Path
    ) -> None:
        done = curves(benchmark_folder, "--home", shared_home, "--output", tmp_path / "new")
        assert done.returncode == 0, done.stderr
        for name in ("redundancy.png", "calibration.png"):
            assert (tmp_path / "new" / name).read_bytes().startswith(PNG)
        for heading in ("NDCG@10", "mean cosine", "share of gold", "P(answerable)", "AUROC"):
            assert heading in done.stdout
        assert sum(line.endswith("default") for line in done.stdout.splitlines()) == 1

    def test_questions_of_one_namespace_need_no_other(
        self, benchmark_folder: Path, shared_home: Path, tmp_path: Path
    ) -> None:
        done = curves(
            *(benchmark_folder, "--namespace", "kitchen", "--every", "2"),
            *("--home", shared_home, "--output", tmp_path),
        )
        assert done.returncode == 0, done.stderr
        assert "redundancy in the first 10 of 2 queries" in done.stdout
        assert "AUROC" not in done.stdout

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        done = curves(tmp_path / "missing", "--output", tmp_path)
        assert done.returncode == 1
        assert "missing: no such file or folder" in done.stderr
        assert "Traceback" not in done.stderr
