"""The packages: what they offer, what they leave for later, and which stands on which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import byheart_server.commands
import byheart_server.demo
import byheart_store
import byheart_store.custody
import byheart_store.interchange
import byheart_store.models
import byheart_store.ranking

HEAVY = {"lancedb", "numpy", "pyarrow", "fastembed", "onnxruntime", "torch", "rich"}


def imported_by(*names: str) -> set[str]:
    """The modules of a fresh process after these imports, by their top-level names."""
    program = f"import sys, {', '.join(names)}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_store_offers() -> None:
    assert byheart_store.__all__ == [
        "DEFAULT_NAMESPACE",
        "FORMAT",
        "WITH_REPLACED",
        "AccessDenied",
        "ByHeartError",
        "Durability",
        "Explanation",
        "FeedbackCounts",
        "Filter",
        "Forgotten",
        "Hit",
        "Home",
        "InvalidInput",
        "Label",
        "LoggedRecall",
        "Memory",
        "MemoryStore",
        "Mode",
        "ModelMismatch",
        "ModelUnavailable",
        "NewMemory",
        "Origin",
        "Purged",
        "Recall",
        "Receipt",
        "Reindexed",
        "StoreBusy",
        "StoreModel",
        "StoreStats",
        "StoreUnavailable",
        "UnknownMemory",
        "UnknownRecall",
        "iso",
        "now",
        "parse_time",
    ]


def test_the_surface_of_the_store_offers() -> None:
    assert byheart_store.custody.__all__ == [
        "Archived",
        "Doctor",
        "Examined",
        "Finding",
        "back_up",
        "restore",
    ]
    assert byheart_store.ranking.__all__ == [
        "DEFAULT_TUNING",
        "NEIGHBOURS",
        "Calibration",
        "Evidence",
        "Fusion",
        "Reranking",
        "Tuning",
        "best_of_passages",
        "best_passages",
        "fused",
        "hit_features",
        "query_features",
        "readable",
        "reranked",
    ]
    assert byheart_store.models.__all__ == [
        "EMBEDDED",
        "EMBEDDED_NAME",
        "Encoder",
        "Reranker",
        "RerankerFile",
        "cores",
        "declare",
        "declared",
        "load_encoder",
        "load_reranker",
        "passage_text",
        "passage_texts",
    ]
    assert byheart_store.interchange.__all__ == [
        "STANDARD_INPUT",
        "Format",
        "Imported",
        "content",
        "file_in",
        "json_objects",
        "read",
        "read_beir",
        "read_jsonl",
        "replacing",
        "store_all",
        "write_jsonl",
    ]


def test_the_commands_and_the_demonstration_offer() -> None:
    assert byheart_server.commands.__all__ == ["cli"]
    assert byheart_server.demo.__all__ == ["DemoError", "run_demo"]


@pytest.mark.parametrize(
    "modules",
    [
        ("byheart_store",),
        ("byheart_store.interchange",),
        ("byheart_store.custody",),
        ("byheart_server",),
        ("byheart_server.__main__", "byheart_server.commands.serve"),
        ("byheart_server.app",),
    ],
    ids=" ".join,
)
def test_importing_stays_lean(modules: tuple[str, ...]) -> None:
    assert imported_by(*modules).isdisjoint(HEAVY)


def test_every_package_offers_what_it_names() -> None:
    packages = (
        byheart_store,
        byheart_store.custody,
        byheart_store.interchange,
        byheart_store.models,
        byheart_store.ranking,
        byheart_server.commands,
        byheart_server.demo,
    )
    for package in packages:
        for name in package.__all__:
            assert hasattr(package, name), f"{package.__name__}.{name}"


def test_imports_point_down_only() -> None:
    root = Path(__file__).parents[2]
    lint = Path(sys.executable).parent / "lint-imports"
    if not lint.is_file():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([str(lint)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
