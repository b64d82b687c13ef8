"""Arrays to draw from, and real stores that share one loaded model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from byheart_store.models import loading

load = cache(loading.load_encoder)


@pytest.fixture(scope="module", autouse=True)
def models_loaded_once() -> Iterator[None]:
    """Every store of this folder gets the real model without loading it anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_encoder", load)
        yield
