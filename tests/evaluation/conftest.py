"""Small benchmarks written as they are published, and the command line that evaluates on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Call

MEMORIES = [
    ("kitchen", "monday", "The sourdough starter lives in the blue jar next to the window."),
    ("kitchen", "monday", "Feed it rye flour and lukewarm water every second evening."),
    ("kitchen", "monday", "Grandmother's plum cake needs forty minutes at a moderate heat."),
    ("kitchen", "friday", "We ran out of cardamom, so the buns got cinnamon instead."),
    ("kitchen", "friday", "The new oven is hotter at the back than the dial admits."),
    ("kitchen", "friday", "Ines is allergic to hazelnuts and must not touch the nougat."),
    ("boat", "launch", "The Petrel was lowered into the harbour on the third of May."),
    ("boat", "launch", "Her mast is eleven metres tall and made of spruce."),
    ("boat", "launch", "Berth seventeen costs ninety crowns a month in summer."),
    ("boat", "repair", "A crack in the rudder was filled with epoxy and sanded flat."),
    ("boat", "repair", "The bilge pump fails whenever the battery drops under eleven volts."),
    ("boat", "repair", "Old Halvard the sailmaker wants the jib back by Thursday."),
]
QUERIES = [
    ("q-starter", "kitchen", "place", "Where is the sourdough starter kept?", [0]),
    ("q-cake", "kitchen", "time", "How long does the plum cake bake?", [2]),
    ("q-buns", "kitchen", "fact", "What replaced the cardamom in the buns?", [3]),
    (
        "q-oven",
        "kitchen",
        "fact",
        "Which part of the oven is too hot and who may not eat nuts?",
        [4, 5],
    ),
    ("q-launch", "boat", "time", "When did the Petrel go into the water?", [6]),
    ("q-berth", "boat", "fact", "What is the price of berth seventeen?", [8]),
    ("q-damage", "boat", "fact", "What was broken on the boat, rudder and pump?", [9, 10]),
    ("q-piano", "boat", "abstention", "Who tuned the piano before the concert?", []),
]


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def corpus_rows() -> list[dict[str, Any]]:
    return [
        {
            "_id": f"m{number}",
            "title": "",
            "text": text,
            "metadata": {"namespace": namespace, "session": session, "turn": number},
        }
        for number, (namespace, session, text) in enumerate(MEMORIES)
    ]


def query_rows() -> list[dict[str, Any]]:
    return [
        {"_id": name, "text": text, "metadata": {"namespace": namespace, "type": kind}}
        for name, namespace, kind, text, _ in QUERIES
    ]


def judgements() -> str:
    rows = [f"{name}\tm{position}\t1\n" for name, *_, gold in QUERIES for position in gold]
    return "query-id\tcorpus-id\tscore\n" + "".join(rows)


def write_beir(folder: Path) -> Path:
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(lines(corpus_rows()))
    (folder / "queries.jsonl").write_text(lines(query_rows()))
    (folder / "qrels.tsv").write_text(judgements())
    return folder


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    return write_beir(tmp_path / "beir")


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder that no test changes."""
    return write_beir(tmp_path_factory.mktemp("data") / "beir")


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that keeps the embedded benchmark from test to test, and holds no memories."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def byheart(shared_home: Path, command_at: Callable[[Path], Call]) -> Call:
    return command_at(shared_home)
