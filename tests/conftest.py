"""What all tests share: the same examples in every run, a home, and a second model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from byheart_store.passages import EMBEDDED

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", deadline=None, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def other_model(tmp_path: Path) -> str:
    """A folder whose vectors have the embedded model's dimension and another meaning."""
    folder = shutil.copytree(EMBEDDED, tmp_path / "other")
    manifest = json.loads((folder / "byheart.json").read_text())
    (folder / "byheart.json").write_text(json.dumps(manifest | {"pooling": "cls"}))
    return str(folder)
