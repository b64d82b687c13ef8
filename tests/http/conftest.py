"""One server with tokens for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .serving import Served, served, token_file


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder, "--tokens", token_file(folder), "--rate", "1000") as running:
        yield running
