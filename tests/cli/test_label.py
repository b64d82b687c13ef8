"""label: one key a hit, saved at once, resumed where it ended."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

from byheart_store import Label, MemoryStore

from ..conftest import Call


def asked(byheart: Call) -> None:
    for text in ("The lift code is blue.", "The lift is serviced in May."):
        byheart("remember", text)
    byheart("recall", "lift")


def test_keys_become_labels(byheart: Call) -> None:
    asked(byheart)
    outcome = byheart("label", stdin="yn")
    assert outcome.code == 0
    assert "The lift code is blue." in outcome.out
    assert outcome.out.endswith("2 labels saved, 0 hits left to judge\n")
    assert byheart("stats", "--json").json["labels"] == 2


def test_what_was_judged_is_saved_when_the_input_ends(byheart: Call) -> None:
    asked(byheart)
    first = byheart("label", "--json", stdin="y\n")
    rest = byheart("label", "--json", stdin="n\n")
    assert first.json == {"useful": 1, "not_useful": 0, "skipped": 0, "left": 1}
    assert rest.json == {"useful": 0, "not_useful": 1, "skipped": 0, "left": 0}


def test_the_last_judgement_can_be_taken_back(byheart: Call) -> None:
    asked(byheart)
    outcome = byheart("label", "--json", stdin="yunn")
    assert outcome.json == {"useful": 0, "not_useful": 2, "skipped": 0, "left": 0}


def test_what_was_taken_back_leaves_no_label(byheart: Call) -> None:
    asked(byheart)
    assert byheart("label", "--json", stdin="yuq").json["left"] == 2
    assert byheart("label", "--json", stdin="us").json["useful"] == 0
    assert byheart("stats", "--json").json["labels"] == 0


def test_only_the_last_one_can_be(byheart: Call) -> None:
    asked(byheart)
    byheart("remember", "The lift holds eight people.")
    byheart("recall", "the lift")
    outcome = byheart("label", "--json", stdin="ynuunyy")
    assert (outcome.json["useful"], outcome.json["not_useful"]) == (3, 1)


def test_it_tells_how_far_one_is(byheart: Call) -> None:
    asked(byheart)
    out = byheart("label", stdin="yn").out
    assert "1 of 2   y useful" in out
    assert "2 of 2   y useful" in out


def test_a_label_knows_where_it_is_from(byheart: Call, home: Path) -> None:
    memory = byheart("remember", "The lift code is blue.", "--namespace", "house", "--json").json
    byheart("recall", "lift", "--namespace", "house")
    byheart("label", stdin="y")
    (label,) = asyncio.run(labels(home))
    assert (label.query, label.memory_id, label.namespace) == ("lift", memory["id"], "house")
    assert (label.source, label.useful) == ("human", True)
    assert label.at <= datetime.now(UTC)


async def labels(home: Path) -> list[Label]:
    async with await MemoryStore.open(home) as store:
        return await store.labels()


def test_skipped_hits_are_asked_again(byheart: Call) -> None:
    asked(byheart)
    assert byheart("label", "--json", stdin="ss").json["left"] == 2
    assert byheart("label", "--json", stdin="xyqy").json["useful"] == 1


def test_the_same_question_is_judged_once(byheart: Call) -> None:
    asked(byheart)
    byheart("recall", "lift")
    assert byheart("label", "--json", stdin="yyyy").json["useful"] == 2


def test_forgotten_hits_are_not_asked(byheart: Call) -> None:
    asked(byheart)
    for line in byheart("export").out.splitlines():
        byheart("forget", json.loads(line)["id"])
    assert byheart("label", "--json", stdin="yy").json["useful"] == 0


def test_nothing_to_judge(byheart: Call) -> None:
    assert byheart("label", stdin="y").out == "0 labels saved, 0 hits left to judge\n"
