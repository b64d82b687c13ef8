"""How much of the code has to be held in mind at once: bounds that a new file has to keep."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("server/byheart_server", "store/byheart_store", "retrain/byheart_retrain")
LONGEST_MODULE = 400
LONGEST_FUNCTION = 50
MOST_AT_THE_TOP_OF_THE_STORE = 14


def modules() -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(found) > 100
    return found


def test_a_module_is_read_in_one_sitting() -> None:
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in modules()}
    assert {str(name): count for name, count in lines.items() if count > LONGEST_MODULE} == {}


def test_a_function_is_seen_on_one_screen() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines + 1 for name, lines in found.items() if lines >= LONGEST_FUNCTION} == {}


def test_the_store_lies_in_wings() -> None:
    at_the_top = [path.name for path in (ROOT / "store" / "byheart_store").glob("*.py")]
    assert len(at_the_top) <= MOST_AT_THE_TOP_OF_THE_STORE, sorted(at_the_top)
