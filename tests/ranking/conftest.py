"""Arrays to draw from, and real stores that share one loaded model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from byheart_store import encoder
from byheart_store.passages import EMBEDDED

load = cache(encoder.load_encoder)


@pytest.fixture(scope="module", autouse=True)
def models_loaded_once() -> Iterator[None]:
    """Every store of this folder gets the real model without loading it anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "load_encoder", load)
        yield


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
