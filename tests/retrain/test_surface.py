"""The packages of retrain: what they offer, and what they leave for later."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = (
    "benchmarks",
    "evaluation",
    "labels",
    "mining",
    "publishing",
    "queries",
    "retraining",
    "training",
)
HEAVY = {
    *("numpy", "torch", "transformers", "sentence_transformers", "datasets"),
    *("onnx", "onnxruntime", "matplotlib", "lancedb", "pyarrow", "fastembed"),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_says_what_belongs_there_and_offers_what_it_names(name: str) -> None:
    package = import_module(f"byheart_retrain.{name}")
    assert package.__doc__
    assert len(package.__doc__.splitlines()) == 1
    assert package.__all__ == sorted(package.__all__, key=lambda one: (not one.isupper(), one))
    for offered in package.__all__:
        assert hasattr(package, offered), offered


def test_importing_them_stays_lean() -> None:
    names = ", ".join(f"byheart_retrain.{name}" for name in PACKAGES)
    program = f"import sys, {names}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()).isdisjoint(HEAVY)
