"""A retraining from end to end, on a tiny model and a world of a few memories."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from byheart_retrain.queries import LabelledQuery
from byheart_retrain.retraining import Outcome, Retraining, RetrainSettings
from byheart_retrain.training import TrainingSettings
from byheart_store import Home, MemoryStore, NewMemory, StoreBusy
from byheart_store.models import declared

from ..conftest import Call
from ..world import memories, questions
from .tiny_models import one_layer

SENTENCES = 72
"""Six people and their deeds."""


@contextmanager
def silent(_: str) -> Iterator[Callable[[int, int | None], None]]:
    yield lambda done, total: None


def labels() -> list[LabelledQuery]:
    return [
        LabelledQuery(f"q{asked.answer}", asked.question, frozenset([f"m{asked.answer}"]))
        for asked in questions()[:SENTENCES]
    ]


def retraining(store: MemoryStore, home: Home, output: Path) -> Retraining:
    async def trial(model: str) -> MemoryStore:
        return await MemoryStore.open(home.folder, model=model, trial=True)

    settings = RetrainSettings(
        output=output,
        tolerance=0.2,  # an interval over 22 questions is wide
        fewest=10,
        rerank=False,
        training=TrainingSettings(
            epochs=1, fewest_steps=12, batch=12, negatives=1, learning_rate=1e-2
        ),
    )
    return Retraining(store, home, trial, settings, silent)


@dataclass(frozen=True)
class Done:
    """A home whose store was learnt from, the model that serves there, and the outcome."""

    home: Home
    deployed: str
    folder: Path
    outcome: Outcome


async def retrained(home: Home, deployed: str, folder: Path) -> Outcome:
    sentences = memories()[:SENTENCES]
    async with await MemoryStore.open(home.folder, model=deployed) as store:
        await store.model_ready()
        await store.remember_many(
            [NewMemory(text=text, id=f"m{number}") for number, text in enumerate(sentences)]
        )
        return await retraining(store, home, folder).run(labels())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    deployed = one_layer(tmp_path_factory.mktemp("models") / "deployed")
    home = Home(tmp_path_factory.mktemp("home"))
    folder = home.models / "candidate"
    outcome = asyncio.run(retrained(home, str(deployed), folder))
    yield Done(home, str(deployed), folder, outcome)
    torch.set_num_threads(threads)


@pytest.mark.timeout(300)
def test_from_labels_to_a_model_that_serves(done: Done, command_at: Callable[[Path], Call]) -> None:
    """One test of all, since another worker would train once more."""
    check_that_what_gains_passes(done)
    check_that_the_report_lies_beside_the_model(done)
    check_that_the_folder_declares_what_was_trained_and_fitted(done)
    check_that_no_work_is_left_over(done)
    check_that_the_store_serves_as_before_until_the_candidate_is_promoted(done, command_at)


def check_that_what_gains_passes(done: Done) -> None:
    assert done.outcome.passed, done.outcome.reason
    assert done.outcome.reason.startswith("Passed: NDCG@10 changes by +")
    assert done.outcome.folder == done.folder


def check_that_the_report_lies_beside_the_model(done: Done) -> None:
    report = json.loads((done.folder / "report.json").read_text())
    assert report == json.loads(json.dumps(done.outcome.report))
    assert report["verdict"] == {"promoted": True, "reason": done.outcome.reason}
    parts = [report["labels"][part] for part in ("train", "dev", "test")]
    assert sum(parts) == report["labels"]["queries"] == SENTENCES
    assert report["scores"]["gain"]["ndcg@10"]["mean"] > 0
    assert {guard["name"] for guard in report["guards"]} == {"known items", "general knowledge"}
    assert (done.folder / "README.md").read_text().count(done.outcome.reason) == 1


def check_that_the_folder_declares_what_was_trained_and_fitted(done: Done) -> None:
    entries = declared(done.folder)
    assert (entries["name"], entries["base"]) == ("candidate", done.deployed)
    assert entries["tuning"] == json.loads((done.folder / "report.json").read_text())["tuning"]
    assert not (done.folder / ".unfinished").exists()


def check_that_no_work_is_left_over(done: Done) -> None:
    assert not done.home.training.exists()
    assert not done.home.is_at_work("retrain")


def check_that_the_store_serves_as_before_until_the_candidate_is_promoted(
    done: Done, command_at: Callable[[Path], Call]
) -> None:
    byheart = command_at(done.home.folder)
    listed = byheart("models", "list", "--json").json["models"]
    assert {one["model"]: one["state"] for one in listed} == {
        done.deployed: "serves",
        str(done.folder): "prepared",
    }
    promoted = byheart("models", "promote", done.folder, "--json").json
    assert (promoted["model"], promoted["previous"]) == (str(done.folder), done.deployed)
    assert promoted["rows"] == 0
    assert byheart("recall", questions()[0].question, "--json").json["hits"]


async def test_a_second_one_is_refused_while_the_first_is_under_way(home: Path) -> None:
    async with await MemoryStore.open(home) as store:
        second = retraining(store, Home(home), home / "models" / "second")
        with (
            Home(home).exclusively("retrain", "the first is under way"),
            pytest.raises(StoreBusy, match="another retraining is under way in this home"),
        ):
            await second.run(labels())
    assert not (home / "models" / "second").exists()
