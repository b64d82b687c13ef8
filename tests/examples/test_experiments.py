"""The experiments under examples/ run as their READMEs say, on small files of the same form."""

from __future__ import annotations

import json
import runpy
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from byheart_retrain.benchmarks import load
from byheart_retrain.evaluation.metrics import ndcg
from byheart_retrain.labels import longmemeval_split, read_labels

from ..conftest import Call

EXAMPLES = Path(__file__).parents[2] / "examples"
LONGMEMEVAL = EXAMPLES / "longmemeval" / "split.py"
LOCOMO = EXAMPLES / "locomo" / "split.py"
COMPARE = EXAMPLES / "experiment" / "compare.py"

Json = dict[str, Any]
Script = Callable[..., tuple[object, str, str]]
Printed = Callable[..., str]

NAMES = [
    f"{given} {family}"
    for given in ("Aino", "Ciro", "Emre", "Goran", "Ilse", "Jorid")
    for family in ("Berg", "Dahl", "Frisk", "Holm", "Kvist", "Lund")
]
FACTS = {
    "pet": ("Which animal lives with {}?", "velmor"),
    "craft": ("What does {} make by hand?", "tarnick"),
    "town": ("Where did {} grow up?", "osseldrum"),
    "dish": ("What would {} like to eat?", "brindow"),
    "song": ("Which tune does {} hum?", "quillet"),
}
"""A question to each topic, and a word for it that only these people use."""


def told(topic: str, name: str) -> str:
    return f"{name} spoke of the {FACTS[topic][1]} again."


def asked(topic: str, name: str) -> str:
    return FACTS[topic][0].format(name)


def instance(number: int, topic: str) -> Json:
    """A question about one of two people, whose haystack tells all topics of both."""
    one, other = (NAMES[(number + step) % len(NAMES)] for step in (0, 7))
    sessions = [
        [
            {"role": "user", "content": told(each, one), "has_answer": each == topic},
            {"role": "user", "content": told(each, other)},
        ]
        for each in FACTS
    ]
    return {
        "question_id": f"{topic}-{number}",
        "question_type": topic,
        "question": asked(topic, one),
        "haystack_dates": ["2023/05/20 (Sat) 02:21"] * len(sessions),
        "haystack_session_ids": list(FACTS),
        "haystack_sessions": sessions,
        "answer_session_ids": [topic],
    }


def longmemeval(each: int) -> list[Json]:
    """So many questions of each topic; the last of all asks for what nothing tells."""
    content = [instance(number, topic) for topic in FACTS for number in range(each)]
    content[-1]["question_id"] += "_abs"
    return content


def conversation(name: str, person: str) -> Json:
    turns = [
        {"speaker": person, "dia_id": f"D1:{place}", "text": told(topic, person)}
        for place, topic in enumerate(FACTS, start=1)
    ]
    return {
        "sample_id": name,
        "conversation": {"session_1_date_time": "1:56 pm on 8 May, 2023", "session_1": turns},
        "qa": [
            {"question": asked(topic, person), "evidence": [f"D1:{place}"], "category": place}
            for place, topic in enumerate(FACTS, start=1)
        ],
    }


def locomo() -> list[Json]:
    names = ("conv-26", "conv-30", "conv-48", "conv-49", "conv-50")
    return [conversation(*each) for each in zip(names, NAMES, strict=False)]


def write_beir(folder: Path, content: list[Json], tmp_path: Path) -> Path:
    """The conversations as a BEIR folder."""
    source = written(tmp_path / "source.json", content)
    benchmark = load(source, "locomo")
    folder.mkdir()
    corpus = [
        {"_id": one.id, "text": one.text, "metadata": {"namespace": one.namespace}}
        for one in benchmark.memories
    ]
    queries = [
        {"_id": one.id, "text": one.text, "metadata": {"namespace": one.namespace, "type": "fact"}}
        for one in benchmark.queries
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    rows = [f"{one.id}\t{name}\t1\n" for one in benchmark.queries for name in one.gold]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder


def written(path: Path, content: list[Json]) -> Path:
    path.write_text(json.dumps(content))
    return path


def as_a_process(path: Path, *arguments: str | Path) -> str:
    command = [sys.executable, str(path), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Script:
    """Runs a script in this process: what it returns with or fails with, prints, complains of."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(path: Path, *arguments: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        capfd.readouterr()
        failure: object = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as error:
            failure = error.code
        return failure, *capfd.readouterr()

    return run


@pytest.fixture
def printed(script: Script) -> Printed:
    def run(*command: str | Path) -> str:
        code, out, err = script(*command)
        assert (code, err) == (0, "")
        return out

    return run


@pytest.fixture
def refused(script: Script) -> Printed:
    def run(*command: str | Path) -> str:
        failure, out, err = script(*command)
        assert isinstance(failure, str)  # which Python prints, and leaves with 1
        assert (out, err) == ("", "")
        assert "\n" not in failure
        return failure

    return run


def ids(path: Path) -> list[str]:
    return [json.loads(line)["_id"] for line in path.read_text().splitlines()]


@pytest.fixture
def byheart(home: Path, command_at: Callable[[Path], Call]) -> Call:
    return command_at(home)


class TestLongMemEval:
    def test_from_the_published_file_to_the_tables(
        self, byheart: Call, printed: Printed, home: Path, tmp_path: Path
    ) -> None:
        file = written(tmp_path / "longmemeval_s.json", longmemeval(6))
        table = printed(LONGMEMEVAL, file, "--home", home)
        assert ["in", "all", "10", "20", "19"] in [line.split() for line in table.splitlines()]
        assert "stored 300 memories in 30 namespaces" in table

        held_out, rest = longmemeval_split(load(file, "longmemeval").queries)
        labels = read_labels(home / "experiment" / "labels.jsonl")
        assert {one.id for one in labels} == {one.id for one in rest if one.gold}
        assert {one.id: one.gold for one in labels}.items() <= {
            one.id: one.gold for one in rest
        }.items()
        assert Counter(one.type for one in held_out) == dict.fromkeys(FACTS, 2)
        queries = home / "experiment" / "holdout" / "queries.jsonl"
        assert ids(queries) == [one.id for one in held_out]

        score = ("eval", file, "--format", "longmemeval", "--limit", "100", "--home", home)
        before, after = tmp_path / "before.trec", tmp_path / "after.trec"
        assert byheart(*score, "--mode", "text", "--run", before).code == 0
        assert byheart(*score, "--run", after).code == 0
        runs = (file, before, after, "--format", "longmemeval", "--queries", queries)
        figures = json.loads(as_a_process(COMPARE, *runs, "--level", "session", "--json"))
        assert (figures["level"], figures["held_out"], figures["resamples"]) == (
            *("session", 10, 10_000),
        )
        assert figures["overall"]["questions"] == sum(bool(one.gold) for one in held_out)
        assert figures["by_type"].keys() == FACTS.keys()
        text = printed(COMPARE, *runs, "--level", "session")
        assert "ranked by session" in text
        for shown in ("NDCG@10", "R@1", "R@3", "R@5", "R@10", "MRR", "95% interval"):
            assert shown in text

    def test_a_file_of_another_format_is_named(
        self, refused: Printed, home: Path, tmp_path: Path
    ) -> None:
        file = written(tmp_path / "locomo10.json", locomo())
        assert "question_id: is missing" in refused(LONGMEMEVAL, file, "--home", home)
        assert not home.exists()


class TestLoCoMo:
    def test_three_conversations_are_held_out(
        self, printed: Printed, home: Path, tmp_path: Path
    ) -> None:
        file = written(tmp_path / "locomo10.json", locomo())
        table = as_a_process(LOCOMO, file, "--home", home)
        assert ["in", "all", "15", "10", "10"] in [line.split() for line in table.splitlines()]
        labels = read_labels(home / "experiment" / "labels.jsonl")
        assert {one.namespace for one in labels} == {"conv-26", "conv-30"}
        assert {one.type for one in labels} == {
            *("multi-hop", "temporal", "open-domain", "single-hop", "adversarial"),
        }
        held_out = ids(home / "experiment" / "holdout" / "queries.jsonl")
        assert {name.split(":")[0] for name in held_out} == {"conv-48", "conv-49", "conv-50"}
        again = printed(LOCOMO, file, "--home", home)
        assert "stored 0 memories in 5 namespaces, 25 already there" in again

    def test_a_beir_folder_gives_the_same_parts(
        self, byheart: Call, printed: Printed, home: Path, tmp_path: Path
    ) -> None:
        file = written(tmp_path / "locomo10.json", locomo())
        folder = write_beir(tmp_path / "beir", locomo(), tmp_path)
        printed(LOCOMO, file, "--home", tmp_path / "other")
        printed(LOCOMO, folder, "--format", "beir", "--home", home)
        parts = [one / "experiment" for one in (home, tmp_path / "other")]
        golds = [{q.id: q.gold for q in read_labels(part / "labels.jsonl")} for part in parts]
        assert golds[0] == golds[1]
        asked_of = [ids(part / "holdout" / "queries.jsonl") for part in parts]
        assert asked_of[0] == asked_of[1]
        judged = [(part / "holdout" / "qrels.txt").read_text() for part in parts]
        assert judged[0] == judged[1]

        run = tmp_path / "run.trec"
        assert byheart("eval", folder, "--run", run, "--home", home).code == 0
        queries = parts[0] / "holdout" / "queries.jsonl"
        arguments = (folder, run, run, "--format", "beir", "--queries", queries)
        figures = json.loads(printed(COMPARE, *arguments, "--json"))
        assert figures["overall"]["questions"] == 15
        assert figures["by_type"].keys() == {"fact"}

    def test_a_benchmark_without_these_conversations_is_refused(
        self, refused: Printed, home: Path, tmp_path: Path
    ) -> None:
        file = written(tmp_path / "locomo10.json", locomo()[:2])
        error = refused(LOCOMO, file, "--home", home)
        assert error.startswith("split: none of the questions is one to be held out")


@pytest.fixture
def held_out(tmp_path: Path) -> tuple[Path, Path]:
    """A published file of two conversations, all its questions held out."""
    file = written(tmp_path / "locomo10.json", locomo()[:2])
    queries = tmp_path / "queries.jsonl"
    names = [one.id for one in load(file, "locomo").queries]
    queries.write_text("".join(json.dumps({"_id": name}) + "\n" for name in names))
    return file, queries


class TestCompare:
    def compare(
        self,
        held_out: tuple[Path, Path],
        before: dict[str, list[str]],
        after: dict[str, list[str]],
        *more: str,
    ) -> tuple[str | Path, ...]:
        file, queries = held_out
        paths = []
        for name, run in (("before", before), ("after", after)):
            path = file.with_name(f"{name}.trec")
            path.write_text(
                "".join(
                    f"{query} Q0 {memory} {place} {9 - place} x\n"
                    for query, memories in run.items()
                    for place, memory in enumerate(memories, start=1)
                )
            )
            paths.append(path)
        return (COMPARE, file, *paths, "--format", "locomo", "--queries", queries, *more)

    def runs(
        self, held_out: tuple[Path, Path], orders: Sequence[Sequence[int]]
    ) -> list[dict[str, list[str]]]:
        """Each question's own conversation, its gold memory at these places."""
        queries = load(held_out[0], "locomo").queries
        found = []
        for places in orders:
            run = {}
            for query, place in zip(queries, places, strict=True):
                others = [f"{query.namespace}:D1:{n}" for n in range(1, 6)]
                gold = next(iter(query.gold))
                others.remove(gold)
                run[query.id] = [*others[:place], gold, *others[place:]]
            found.append(run)
        return found

    def test_a_gain_on_every_question_is_significant(
        self, printed: Printed, held_out: tuple[Path, Path]
    ) -> None:
        before, after = self.runs(held_out, [[1] * 10, [0] * 10])
        figures = json.loads(printed(*self.compare(held_out, before, after, "--json")))
        overall = figures["overall"]
        assert overall["before"]["ndcg@10"]["mean"] == pytest.approx(ndcg(["x", "g"], {"g"}, 10))
        assert overall["after"]["ndcg@10"]["mean"] == 1
        assert overall["difference"]["recall@1"] == {
            **dict.fromkeys(("mean", "low", "high"), 1.0),
            "significant": True,
        }
        assert overall["difference"]["recall@3"]["significant"] is False
        assert {one["questions"] for one in figures["by_type"].values()} == {2}

    def test_gains_and_losses_are_none_in_the_mean(
        self, printed: Printed, held_out: tuple[Path, Path]
    ) -> None:
        before, after = self.runs(held_out, [[0, 1] * 5, [1, 0] * 5])
        text = printed(*self.compare(held_out, before, after))
        assert "significant" not in text.split("multi-hop")[0]
        rows = [line for line in text.splitlines() if line.startswith("  R@1 ")]
        assert rows[0].split()[1:4] == ["0.5000", "0.5000", "+0.0000"]
        assert len(rows) == 6

    def test_sessions_stand_at_the_rank_of_their_first_memory(
        self, printed: Printed, held_out: tuple[Path, Path]
    ) -> None:
        before, after = self.runs(held_out, [[3] * 10, [0] * 10])
        more = ("--level", "session", "--json")
        figures = json.loads(printed(*self.compare(held_out, before, after, *more)))
        assert figures["overall"]["before"]["mrr"]["mean"] == 1

    def test_a_question_that_a_run_lacks_counts_as_0(
        self, printed: Printed, held_out: tuple[Path, Path]
    ) -> None:
        before, after = self.runs(held_out, [[0] * 10, [0] * 10])
        del after["conv-26:q0"]
        figures = json.loads(printed(*self.compare(held_out, before, after, "--json")))
        assert figures["overall"]["after"]["mrr"]["mean"] == 9 / 10

    def test_a_run_of_something_else_is_refused(
        self, refused: Printed, held_out: tuple[Path, Path]
    ) -> None:
        [run] = self.runs(held_out, [[0] * 10])
        error = refused(*self.compare(held_out, run, {"other": ["m1"]}))
        assert error.startswith("compare: a run answers none of the questions held out")


def commands(readme: Path) -> list[list[str]]:
    """The commands that a README gives, an argument list each."""
    block = "\n".join(
        line.strip() for line in readme.read_text().splitlines() if line.startswith("    ")
    )
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if not line.startswith("#")]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_what_the_readme_says_trains_a_better_model(tmp_path: Path) -> None:
    written(tmp_path / "longmemeval_s.json", longmemeval(30))
    programs = {"python": [sys.executable], "byheart": [sys.executable, "-m", "byheart_server"]}
    for program, *arguments in commands(LONGMEMEVAL.with_name("README.md")):
        given = [one.replace("examples/", f"{EXAMPLES}/") for one in arguments]
        done = subprocess.run(
            [*programs[program], *given, *(["--json"] if "--level" in given else [])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        # A gate that refuses ends with 2, and leaves a model to be scored.
        assert done.returncode in ((0, 2) if "retrain" in given else (0,)), done.stderr
    overall = json.loads(done.stdout)["overall"]
    assert overall["questions"] == 30
    assert overall["difference"]["ndcg@10"]["mean"] > 0
