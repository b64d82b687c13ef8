"""remember, recall, forget, stats, reindex: what they print and how they exit."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from byheart_server.commands import cli

from ..conftest import Call


def remember(byheart: Call, text: str, *options: str) -> str:
    outcome = byheart("remember", text, "--json", *options)
    assert outcome.code == 0, outcome.err
    return str(outcome.json["id"])


def test_a_remembered_text_is_recalled(byheart: Call) -> None:
    stored = byheart("remember", "The spare key hangs in the shed.", "--speaker", "Ada")
    found = byheart("recall", "Where is the spare key?")

    assert stored.code == found.code == 0
    assert stored.out.startswith("stored ")
    assert "The spare key hangs in the shed." in found.out
    assert "Ada" in found.out


def test_the_same_text_again_is_a_duplicate(byheart: Call) -> None:
    first = byheart("remember", "Tea at four.")
    again = byheart("remember", "Tea at four.")
    assert again.out == first.out.replace("stored", "duplicate")


def test_a_dash_reads_standard_input(byheart: Call) -> None:
    assert byheart("remember", "-", stdin="Grüße aus Köln\n").code == 0
    hits = byheart("recall", "Köln", "--json").json["hits"]
    assert [hit["text"] for hit in hits] == ["Grüße aus Köln"]


def test_recall_says_plainly_when_nothing_is_known(byheart: Call) -> None:
    assert byheart("recall", "anything?").out == "Nothing known about that.\n"


def test_recall_obeys_its_filters(byheart: Call) -> None:
    options = {"--namespace": "work", "--session": "s1", "--speaker": "Ada", "--tag": "fact"}
    wanted = remember(
        byheart,
        "The lift code is blue.",
        *(part for pair in options.items() for part in pair),
        *("--at", "2025-05-05"),
    )
    remember(byheart, "The lift code is red.", "--at", "2024-01-01")
    for name, value in (options | {"--after": "2025-05-05"}).items():
        hits = byheart("recall", "lift code", "--json", name, value).json["hits"]
        assert [hit["id"] for hit in hits] == [wanted], name


def test_recall_before_a_date(byheart: Call) -> None:
    early = remember(byheart, "The lift code is red.", "--at", "2024-01-01")
    remember(byheart, "The lift code is blue.", "--at", "2025-05-05")
    hits = byheart("recall", "lift code", "--json", "--before", "2025-05-05").json["hits"]
    assert [hit["id"] for hit in hits] == [early]


def test_recall_knows_what_was_known_then(byheart: Call) -> None:
    old = remember(byheart, "The vet is Dr. Keller.")
    then = byheart("export").out.split('"created": "')[1].split('"')[0]
    remember(byheart, "The vet is Dr. Nowak.", "--replaces", old)

    now_known = byheart("recall", "vet", "--json").json["hits"]
    then_known = byheart("recall", "vet", "--json", "--as-of", then).json["hits"]

    assert [hit["text"] for hit in now_known] == ["The vet is Dr. Nowak."]
    assert [hit["text"] for hit in then_known] == ["The vet is Dr. Keller."]


def test_recall_explains_itself_when_asked(byheart: Call) -> None:
    remember(byheart, "The lift code is blue.")
    assert "text rank 1" in byheart("recall", "lift code", "--explain").out
    hit = byheart("recall", "lift code", "--explain", "--json").json["hits"][0]
    assert hit["explanation"]["text_rank"] == 1


def test_forget_by_id(byheart: Call) -> None:
    name = remember(byheart, "The lift code is blue.")
    assert byheart("forget", name).out == "forgot 1 memory\n"
    assert byheart("recall", "lift code", "--json").json["hits"] == []


def test_forget_by_filter_shows_first_what_would_go(byheart: Call) -> None:
    name = remember(byheart, "One.", "--session", "s1")
    remember(byheart, "Two.", "--session", "s2")

    dry = byheart("forget", "--session", "s1", "--dry-run", "--json").json
    assert dry == {"ids": [name], "missing": [], "count": 1, "dry_run": True}
    assert byheart("stats", "--json").json["memories"] == 2

    assert byheart("forget", "--session", "s1", "--json").json["count"] == 1
    assert byheart("stats", "--json").json["memories"] == 1


def test_forgetting_an_unknown_id_fails(byheart: Call) -> None:
    outcome = byheart("forget", "nobody")
    assert outcome.code == 1
    assert outcome.err == "byheart: no memory has the id nobody; take ids from a recall\n"


def test_a_purge_says_what_went(byheart: Call) -> None:
    name = remember(byheart, "The lift code is blue.")
    byheart("recall", "lift code")
    assert byheart("forget", name, "--purge").out.splitlines() == [
        "forgot 1 memory",
        "purged: no trace is left in this home; 1 logged recall and 0 labels went with it",
        "copies elsewhere, such as backups and exports, are yours to delete",
    ]
    assert byheart("stats", "--json").json["recalls"] == 0


def test_what_was_forgotten_before_can_be_purged(byheart: Call, home: Path) -> None:
    byheart("forget", remember(byheart, "The lift code is Quetzalcoatlus."))
    assert byheart("forget", "--purge", "--json").json["purged"]["kept"] == []
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(b"quetzal" in content.lower() for content in files)


def test_a_purge_can_not_be_tried(byheart: Call) -> None:
    assert byheart("forget", "--purge", "--dry-run").code == 2


def test_stats_are_aligned(byheart: Call) -> None:
    remember(byheart, "One.", "--namespace", "work")
    lines = byheart("stats").out.splitlines()
    assert "memories          1" in lines
    assert "  work            1" in lines


def test_reindex_fills_what_is_missing(byheart: Call) -> None:
    remember(byheart, "One.")
    outcome = byheart("reindex", "--json")
    assert outcome.code == 0
    assert outcome.json["rows"] == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["remember", " "], "text: is empty"),
        (["remember", "a", "--at", "soon"], "--at: 'soon' is no date"),
        (["remember", "a", "--metadata", "[1]"], "--metadata: is not a JSON object"),
        (["remember", "a", "--session", ""], "session: is empty"),
        (["recall", "a", "--limit", "0"], "limit: 0 must be from 1"),
        (["recall", "a", "--limit", "many"], "Invalid value for '--limit'"),
        (["recall"], "Missing argument 'QUERY'; see: byheart recall --help"),
        (["forget"], "forget: give either ids or a filter"),
        (["nonsense"], "No such command 'nonsense'"),
        (["import", "/nowhere/at/all"], "/nowhere/at/all: no such file"),
        (["export", "--json"], "--json needs standard output for itself"),
    ],
)
def test_arguments_that_cannot_be_accepted_are_refused_in_one_line(
    byheart: Call, arguments: list[str], problem: str
) -> None:
    outcome = byheart(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("byheart: ")
    assert problem in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_home_that_is_a_file_is_a_failure_in_one_line(byheart: Call, home: Path) -> None:
    home.write_text("not a folder")
    outcome = byheart("stats")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert str(home) in outcome.err


def test_the_option_goes_before_the_environment(byheart: Call, tmp_path: Path) -> None:
    remember(byheart, "One.")
    elsewhere = byheart("stats", "--json", "--home", str(tmp_path / "other"))
    assert elsewhere.json["memories"] == 0


def test_every_command_explains_itself(byheart: Call) -> None:
    for name in cli.list_commands(click.Context(cli)):
        outcome = byheart(name, "--help")
        assert outcome.code == 0
        assert outcome.out.startswith(f"Usage: byheart {name}")
