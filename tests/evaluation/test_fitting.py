"""Fitting: it follows the labels as far as they carry, and refuses what does not help."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from byheart_retrain.queries import LabelledQuery
from byheart_retrain.training import Observation, fit, observe
from byheart_retrain.training.calibration import calibrated, logistic
from byheart_retrain.training.fitting import FEWEST_QUERIES, folds
from byheart_store import InvalidInput, MemoryStore, ModelUnavailable, NewMemory
from byheart_store.models import EMBEDDED, declare
from byheart_store.ranking.evidence import Evidence
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning

from ..conftest import Call
from .conftest import lines

Floats: TypeAlias = NDArray[np.float64]
Leg = Literal["vector", "text"]

MEMORIES = 40


def observation(
    number: int,
    trusted: Leg | None,
    *,
    namespace: str | None = None,
    gold: int | None = 0,
    draw: np.random.Generator | None = None,
) -> Observation:
    """A query of which one leg knows the answer, and the other one something else."""
    draw = draw or np.random.default_rng(number)
    right, wrong = draw.permutation(MEMORIES)[:2]
    cosines, text = draw.uniform(0, 0.3, MEMORIES), draw.uniform(0, 2, MEMORIES)
    cosines[right if trusted == "vector" else wrong] = 0.8
    text[right if trusted == "text" else wrong] = 12
    answer = right if trusted else draw.integers(MEMORIES)
    ids = tuple(f"{namespace}-{number}-{position}" for position in range(MEMORIES))
    names = frozenset() if gold is None else frozenset([ids[answer]])
    query = LabelledQuery(f"q-{number}", "a question", names, namespace)
    return Observation(query, evidence(text, cosines), cosines, ids, names)


def evidence(text: Floats, cosines: Floats) -> Evidence:
    """Of memories that have one passage each and no session."""
    count = len(text)
    return Evidence(
        memories=np.arange(count),
        sessions=np.full(count, -1),
        ages=np.full(count, np.nan, np.float32),
        first=np.arange(count + 1),
        rows=np.arange(count),
        admitted=count,
        most_text=30.0,
        text=text.astype(np.float32),
        cosines=cosines.astype(np.float32),
    )


def asked(trusted: Leg | None, count: int = 60, namespaces: int = 10) -> list[Observation]:
    """Queries spread over namespaces, each asked once more where nothing answers it."""
    found = []
    for number in range(count):
        namespace = f"n-{number % namespaces}"
        found.append(observation(number, trusted, namespace=namespace))
        found.append(observation(number, None, namespace=namespace, gold=None))
    return found


class TestLogistic:
    TRUE = np.array([-0.5, 2.0, -1.0])

    def drawn(self, count: int) -> tuple[Floats, Floats]:
        draw = np.random.default_rng(5)
        features = draw.normal(size=(count, 2))
        chance = 1 / (1 + np.exp(-(self.TRUE[0] + features @ self.TRUE[1:])))
        return features, (draw.uniform(size=count) < chance).astype(float)

    def test_known_coefficients_are_recovered(self) -> None:
        found = logistic(*self.drawn(20_000), prior=np.zeros(3))
        np.testing.assert_allclose(found, self.TRUE, atol=0.1)

    def test_without_data_the_prior_stands(self) -> None:
        prior = np.array([1.0, -2.0, 3.0])
        np.testing.assert_allclose(logistic(np.zeros((0, 2)), np.zeros(0), prior), prior)

    def test_little_data_moves_it_a_little_and_more_moves_it_more(self) -> None:
        features, outcomes = self.drawn(1_000)
        few = logistic(features[:5], outcomes[:5], np.zeros(3))
        many = logistic(features, outcomes, np.zeros(3))
        gap_of_few, gap_of_many = (np.abs(one - self.TRUE).sum() for one in (few, many))
        assert np.abs(few).sum() > 0
        assert gap_of_many < gap_of_few

    def test_separable_data_gives_finite_coefficients(self) -> None:
        features = np.linspace(-1, 1, 40)[:, None]
        found = logistic(features, (features[:, 0] > 0).astype(float), np.zeros(2))
        assert np.isfinite(found).all()
        assert found[1] > 1

    def test_a_feature_that_never_varies_does_no_harm(self) -> None:
        features, outcomes = self.drawn(2_000)
        wide = np.column_stack([features, np.zeros(len(features))])
        found = logistic(wide, outcomes, np.zeros(4))
        np.testing.assert_allclose(found[:3], self.TRUE, atol=0.3)
        assert found[3] == 0


class TestFolds:
    def test_no_namespace_stands_on_both_sides(self) -> None:
        found = folds([one for one in asked("text") if one.gold], seed=0)
        where = [{one.query.namespace for one in fold} for fold in found]
        assert len(found) == 5
        assert sum(map(len, where)) == len(set().union(*where)) == 10

    def test_with_few_namespaces_no_gold_memory_does(self) -> None:
        names = [frozenset([f"gold-{number % 12}"]) for number in range(48)]
        queries = [replace(observation(n, "text"), gold=gold) for n, gold in enumerate(names)]
        found = folds(queries, seed=0)
        golds = [{name for one in fold for name in one.gold} for fold in found]
        assert len(found) == 5
        assert sum(map(len, golds)) == len(set().union(*golds)) == 12

    def test_every_query_stands_in_one_fold(self) -> None:
        queries = [one for one in asked("text") if one.gold]
        found = [one.query.id for fold in folds(queries, seed=3) for one in fold]
        assert sorted(found) == sorted(one.query.id for one in queries)

    def test_queries_linked_by_any_gold_memory_stay_together(self) -> None:
        links = [{"a", "b"}, {"b", "c"}, {"d"}, {"c"}, {"d", "e"}, {"f"}]
        queries = [
            replace(observation(number, "text"), gold=frozenset(gold))
            for number, gold in enumerate(links)
        ]
        for fold in folds(queries, seed=0):
            inside = set().union(*(one.gold for one in fold))
            outside = set().union(
                *(one.gold for one in queries if not any(one is other for other in fold))
            )
            assert not inside & outside

    def test_they_are_the_same_every_time(self) -> None:
        queries = [one for one in asked("text") if one.gold]
        once, again, other = (
            [[one.query.id for one in fold] for fold in folds(queries, seed)] for seed in (1, 1, 2)
        )
        assert once == again != other


class TestFit:
    @pytest.mark.parametrize(("trusted", "sign"), [("vector", 1), ("text", -1)])
    def test_the_better_leg_gains_weight_and_the_fit_is_kept(self, trusted: Leg, sign: int) -> None:
        found = fit(asked(trusted), tilted(-sign))
        assert sign * (found.tuning.fusion.vector - 0.45) > 0
        assert found.helps
        assert found.gain.mean > 0.1
        assert found.gain.low > 0

    def test_labels_without_sense_are_refused(self) -> None:
        found = fit(asked(None), DEFAULT_TUNING)
        assert not found.helps

    def test_shuffled_labels_are_refused(self) -> None:
        right = [one for one in asked("vector") if one.gold]
        positions = random.Random(0).choices(range(MEMORIES), k=len(right))
        mixed = [
            replace(one, gold=frozenset([one.ids[position]]))
            for one, position in zip(right, positions, strict=True)
        ]
        assert not fit(mixed, DEFAULT_TUNING).helps

    def test_only_weight_power_and_calibration_are_fitted(self) -> None:
        fitted = fit(asked("vector"), DEFAULT_TUNING).tuning
        fusion = replace(fitted.fusion, vector=0.45, power=2.0)
        assert replace(fitted, fusion=fusion, calibration=DEFAULT_TUNING.calibration) == (
            DEFAULT_TUNING
        )

    def test_it_is_repeatable(self) -> None:
        assert fit(asked("text"), DEFAULT_TUNING) == fit(asked("text"), DEFAULT_TUNING)

    def test_too_few_queries_are_a_clear_error(self) -> None:
        with pytest.raises(InvalidInput, match=r"29 labelled queries are too few, 30 .*label"):
            fit(asked("text", count=FEWEST_QUERIES - 1), DEFAULT_TUNING)

    def test_the_fewest_are_enough(self) -> None:
        assert fit(asked("text", count=FEWEST_QUERIES), DEFAULT_TUNING).queries == FEWEST_QUERIES

    def test_one_memory_that_answers_everything_is_a_clear_error(self) -> None:
        same = [replace(observation(n, "text"), gold=frozenset(["one"])) for n in range(40)]
        with pytest.raises(InvalidInput, match="label"):
            fit(same, DEFAULT_TUNING)

    def test_a_query_without_memories_to_choose_from_counts_for_nothing(self) -> None:
        nothing = evidence(np.zeros(0), np.zeros(0))
        empty = replace(observation(99, "text"), evidence=nothing, cosines=np.zeros(0), ids=())
        with_it = fit([*asked("text"), empty], DEFAULT_TUNING)
        assert with_it == fit(asked("text"), DEFAULT_TUNING)

    def test_fewer_memories_than_are_looked_at_are_enough(self) -> None:
        small = [observation(number, "text", namespace=f"n-{number % 6}") for number in range(30)]
        cut = [
            replace(
                one,
                evidence=evidence(np.array([3.0, 1, 0]), np.array([0.5, 0.2, 0.1])),
                cosines=np.array([0.5, 0.2, 0.1]),
                ids=("a", "b", "c"),
                gold=frozenset("a"),
            )
            for one in small
        ]
        assert fit(cut, DEFAULT_TUNING).gain.mean == 0


class TestCalibration:
    def test_it_tells_answerable_from_not_better_than_before(self) -> None:
        queries = dimmed(asked("vector"))
        before = DEFAULT_TUNING.calibration
        after = calibrated(queries, DEFAULT_TUNING.fusion, before)
        assert after.vectors != before.vectors
        assert brier(queries, after.vectors) < brier(queries, before.vectors)

    def test_where_all_are_answerable_only_the_hits_are_fitted(self) -> None:
        queries = [one for one in asked("vector") if one.gold]
        before = DEFAULT_TUNING.calibration
        after = calibrated(queries, DEFAULT_TUNING.fusion, before)
        assert after.vectors == before.vectors
        assert after.hit != before.hit

    def test_a_fit_lowers_the_calibration_error(self) -> None:
        before, after = fit(asked("vector"), DEFAULT_TUNING).ece
        assert after < before


class TestObserving:
    async def test_every_query_is_asked_where_nothing_answers_it_too(self, tmp_path: Path) -> None:
        async with await MemoryStore.open(tmp_path) as store:
            await store.remember_many(
                [
                    NewMemory(id="jar", text="The starter is in the jar.", namespace="kitchen"),
                    NewMemory(id="mast", text="The mast is of spruce.", namespace="boat"),
                ]
            )
            query = LabelledQuery("q", "Where is the starter?", frozenset(["jar"]), "kitchen")
            other = LabelledQuery("p", "What is the mast of?", frozenset(["mast"]), "boat")
            here, there, *_ = await observe(store, [query, other])
        assert (here.ids, here.gold) == (("jar",), frozenset(["jar"]))
        assert (there.ids, there.gold) == (("mast",), frozenset())

    async def test_without_vectors_it_says_what_to_do(self, tmp_path: Path) -> None:
        async with await MemoryStore.open(tmp_path, model="no/such-model") as store:
            await store.remember(NewMemory(id="jar", text="The starter is in the jar."))
            with pytest.raises(ModelUnavailable):
                await observe(store, [LabelledQuery("q", "Where?", frozenset(["jar"]))])


TOPICS = [
    ("The doctor told Tomas to eat less salt.", "medical advice"),
    ("Marta practises the cello on Tuesdays.", "musical instrument"),
    ("The bottle of Rioja is meant for the anniversary.", "an alcoholic drink"),
    ("Slugs ate all the lettuce behind the house.", "garden pests"),
    ("Lena flies to Lisbon in October.", "travel plans"),
    ("Jonas already reads whole books.", "a child's education"),
    ("The landlord asks for four per cent more.", "cost of housing"),
    ("The brake pads have to be changed.", "car repair"),
    ("Our cat bites the postman.", "an aggressive pet"),
    ("The mast is eleven metres tall.", "part of a sailing boat"),
]
"""What is remembered, and a query that shares no word with it."""


def code(group: int, position: int) -> str:
    return "qu" + "bdfgkm"[group] + "o" + "bdfgkmpvxz"[position] + "ak"


def benchmark(folder: Path, queries: Sequence[tuple[str, int]]) -> Path:
    """Six namespaces of notes that begin with a code; `queries` tell which topic answers them.

    {} in a query stands for the code of the note before the one that answers.
    """
    folder.mkdir()
    corpus, asked_for, judgements = [], [], "query-id\tcorpus-id\tscore\n"
    for group in range(6):
        where = {"namespace": f"n-{group}"}
        for position, (text, _) in enumerate(TOPICS):
            note = f"{code(group, position)}: {text}"
            corpus.append({"_id": f"m-{group}-{position}", "text": note, "metadata": where})
        for number, (query, position) in enumerate(queries):
            text = query.format(code(group, (position - 1) % len(TOPICS)))
            asked_for.append({"_id": f"q-{group}-{number}", "text": text, "metadata": where})
            judgements += f"q-{group}-{number}\tm-{group}-{position}\t1\n"
    (folder / "corpus.jsonl").write_text(lines(corpus))
    (folder / "queries.jsonl").write_text(lines(asked_for))
    (folder / "qrels.tsv").write_text(judgements)
    return folder


@pytest.fixture(scope="module")
def fit_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit-home")


@pytest.fixture
def tuned(byheart: Call, fit_home: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line at a home of its own, at which nothing is fitted yet."""
    monkeypatch.setenv("BYHEART_HOME", str(fit_home))
    assert byheart("fit", "--reset").code == 0
    return byheart


@pytest.fixture(scope="module")
def story() -> dict[str, Any]:
    """What came of the one fit that most tests of the command begin with."""
    return {}


@pytest.fixture
def fitted(
    tuned: Call,
    by_meaning: Path,
    fit_home: Path,
    story: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """The command line at a home where a fit was kept."""
    if not story:
        before = tuned("eval", by_meaning, "--json").json
        story |= {"before": before, "outcome": tuned("fit", by_meaning, "--json")}
        story["home"] = shutil.copytree(fit_home, fit_home.with_name("fitted"))
    home = shutil.copytree(story["home"], tmp_path / "fitted")
    monkeypatch.setenv("BYHEART_HOME", str(home))
    return tuned


@pytest.fixture(scope="module")
def by_meaning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries whose one shared word leads to another note than the one that answers."""
    queries = [(f"{{}} {query}", position) for position, (_, query) in enumerate(TOPICS)]
    return benchmark(tmp_path_factory.mktemp("data") / "meaning", queries)


@pytest.fixture(scope="module")
def literal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries that every setting answers."""
    queries = [(text, position) for position, (text, _) in enumerate(TOPICS)]
    return benchmark(tmp_path_factory.mktemp("data") / "literal", queries)


class TestCommand:
    def test_what_helps_is_kept_and_evaluated_with(
        self, fitted: Call, story: dict[str, Any], by_meaning: Path
    ) -> None:
        before, outcome = story["before"], story["outcome"]
        after = fitted("eval", by_meaning, "--json").json
        assert (outcome.code, outcome.err, outcome.json["kept"]) == (0, "", True)
        assert (before["fitted"], after["fitted"]) == (False, True)
        assert ndcg_of(after) > ndcg_of(before)

    def test_json_tells_the_gain_and_what_was_fitted(
        self, fitted: Call, story: dict[str, Any]
    ) -> None:
        figures = story["outcome"].json
        assert figures.keys() == {"kept", "queries", "gain", "ece", "tuning"}
        assert figures["gain"]["ndcg@10"].keys() == {"mean", "low", "high", "at_least"}
        assert figures["queries"] == 60
        assert Tuning.from_dict(figures["tuning"]).fusion.vector > 0.45

    def test_what_gains_nothing_is_refused_and_changes_nothing(
        self, tuned: Call, literal: Path
    ) -> None:
        outcome = tuned("fit", literal)
        assert outcome.code == 2
        assert "refused" in outcome.out
        assert not tuned("eval", literal, "--json").json["fitted"]

    def test_a_reset_takes_the_defaults_back(self, tuned: Call, by_meaning: Path) -> None:
        assert "kept" in tuned("fit", by_meaning).out
        assert "fitted" in tuned("eval", by_meaning).out.splitlines()[0]
        assert tuned("fit", "--reset").code == 0
        assert not tuned("eval", by_meaning, "--json").json["fitted"]

    def test_a_refused_fit_leaves_an_earlier_one_in_use(
        self, fitted: Call, story: dict[str, Any], literal: Path
    ) -> None:
        assert story["outcome"].code == 0
        assert fitted("fit", literal).code == 2
        assert fitted("eval", literal, "--json").json["fitted"]

    def test_what_is_not_fitted_stays_as_the_model_brings_it(
        self, tuned: Call, by_meaning: Path, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(EMBEDDED, tmp_path / "specialist")
        brought = replace(DEFAULT_TUNING, diversity=replace(DEFAULT_TUNING.diversity, balance=0.9))
        declare(folder, tuning=brought.as_dict())
        home = ("--home", tmp_path / "own")
        assert tuned("reindex", "--model", folder, *home).code == 0
        figures = tuned("fit", by_meaning, *home, "--json").json
        assert figures["kept"]
        assert Tuning.from_dict(figures["tuning"]).diversity == brought.diversity

    def test_a_fit_has_to_beat_what_serves(
        self, fitted: Call, story: dict[str, Any], by_meaning: Path
    ) -> None:
        assert story["outcome"].code == 0
        assert fitted("fit", by_meaning).code == 2

    def test_only_the_namespaces_given_are_fitted_to(self, tuned: Call, by_meaning: Path) -> None:
        outcome = tuned("fit", by_meaning, "--namespace", "n-0", "--namespace", "n-1")
        assert (outcome.code, outcome.out) == (2, "")
        assert "20 labelled queries are too few" in outcome.err

    def test_a_store_without_labels_is_told_how_to_get_some(self, tuned: Call) -> None:
        outcome = tuned("fit")
        assert (outcome.code, outcome.out) == (2, "")
        assert "byheart label" in outcome.err
        assert len(outcome.err.splitlines()) == 1


def ndcg_of(figures: Any) -> float:
    mean: float = figures["memory"]["ndcg@10"]["mean"]
    return mean


def tilted(sign: int) -> Tuning:
    """The defaults, with the weight moved towards one leg."""
    fusion = replace(DEFAULT_TUNING.fusion, vector=0.45 + 0.15 * sign)
    return replace(DEFAULT_TUNING, fusion=fusion)


def dimmed(queries: Sequence[Observation]) -> list[Observation]:
    """As asked with a model whose cosines are all low, lower still where nothing answers."""
    factor = {True: 0.3, False: 0.15}
    return [replace(one, cosines=one.cosines * factor[bool(one.gold)]) for one in queries]


def brier(queries: Sequence[Observation], vectors: tuple[float, ...]) -> float:
    """The mean squared error of the probability that anything answers."""
    calibration = replace(DEFAULT_TUNING.calibration, vectors=vectors)
    said = [calibration.answerable(None, one.cosines, 1.0, len(one.cosines)) for one in queries]
    return float(np.mean([(p - bool(one.gold)) ** 2 for p, one in zip(said, queries, strict=True)]))
