"""docs/architecture.md names files, folders and what stands in them: all of it is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("store/byheart_store", "retrain/byheart_retrain", "server/byheart_server")
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

CODE = re.findall(r"`([^`\n]+)`", TEXT)
FILES = sorted({name for name in CODE if re.fullmatch(r"[\w./-]+\.(?:py|toml)", name)})
FOLDERS = sorted(
    {name for name in CODE if re.fullmatch(r"(?:server|store|retrain)/[\w./]+\w", name)}
)
DEFINED = sorted(set(re.findall(r"`(\w+)`\s+in\s+`([\w./-]+\.py)`", TEXT)))


def found(name: str) -> Path | None:
    """A path as it is written there: from the root of the checkout, or within a package."""
    places = [ROOT, *(ROOT / package for package in PACKAGES)]
    return next((place / name for place in places if (place / name).exists()), None)


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 20
    assert len(DEFINED) > 10


@pytest.mark.parametrize("name", sorted({*FILES, *FOLDERS}))
def test_a_file_that_is_named_is_there(name: str) -> None:
    assert found(name) is not None


@pytest.mark.parametrize(("name", "file"), DEFINED)
def test_what_is_said_to_stand_in_a_file_does(name: str, file: str) -> None:
    path = found(file)
    assert path is not None
    assert re.search(rf"\b(?:class|def) {name}\b|^{name}\b", path.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_lies_at_the_top_of_a_package_is_told_of(package: str) -> None:
    inside = [path for path in (ROOT / package).iterdir() if path.name != "__init__.py"]
    folders = [path.name for path in inside if (path / "__init__.py").exists()]
    modules = [path.name for path in inside if path.suffix == ".py"]
    assert len(folders) > 5
    assert [name for name in folders if f" {name}/ " not in TEXT] == []
    assert [name for name in modules if f" {name} " not in TEXT] == []
