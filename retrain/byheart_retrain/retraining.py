"""From labels to a verdict: split, mine, train, export, fit, judge, publish.

The candidate is judged through the production recall of the live store, in a vector column of its
own, so that what the gate saw is what a promotion serves. The test questions are asked by the
gate alone, after everything else has been decided.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from byheart_retrain.benchmarks import Query
from byheart_retrain.development import development
from byheart_retrain.evaluation import Answer, ask
from byheart_retrain.fitting import fusion_settings, judge, tuned
from byheart_retrain.gate import DECIDING, REPORTED, Verdict, judged, too_few
from byheart_retrain.guard import (
    GuardResult,
    general,
    general_pairs,
    general_scores,
    known_items,
)
from byheart_retrain.labels import LabelCounts, usable
from byheart_retrain.metrics import METRICS
from byheart_retrain.mining import Mined, MiningStats, mine
from byheart_retrain.onnx_export import Parity, publish_onnx
from byheart_retrain.own_queries import known_item_queries
from byheart_retrain.progress import Progress, Show, counting
from byheart_retrain.publishing import publish_report
from byheart_retrain.report import (
    Report,
    Scores,
    gains_of,
    latencies,
    scores_between,
    scores_by_type,
    scores_of,
)
from byheart_retrain.reranker_training import RerankerSettings
from byheart_retrain.second_stage import SecondStage, add_reranker
from byheart_retrain.splitting import FEWEST_TESTED, Split, split
from byheart_retrain.training import Encode, Example, Trained, TrainingSettings, train_encoder
from byheart_store import InvalidInput, Memory, MemoryStore, ModelUnavailable
from byheart_store.models import EMBEDDED_NAME, load_encoder
from byheart_store.ranking import DEFAULT_TUNING, Tuning

logger = logging.getLogger(__name__)

MANIFEST = "byheart.json"
UNFINISHED = ".unfinished"
"""Lies in a candidate's folder until its report does: a run that was cut off may begin anew."""

KNOWN_SHARE = 0.25
"""Of the reranker's questions beside the labelled ones, so many ask by a memory's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainSettings:
    """What a retraining may be told.

    `base` is the model that training starts from, None the one that the store's own came from. A
    candidate needs a gain of `min_gain` NDCG@10 whose interval stays above -`tolerance`, on
    `fewest` test questions at least. `command` is what the model card says to reproduce it with.
    """

    output: Path
    base: str | None = None
    seed: int = 0
    min_gain: float = 0.0
    tolerance: float = 0.0
    fewest: int = FEWEST_TESTED
    rerank: bool = True
    command: str = "byheart retrain"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    reranker: RerankerSettings = field(default_factory=RerankerSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a retraining ended: the gate's word, and the candidate's folder if one was trained."""

    passed: bool
    reason: str
    folder: Path | None = None
    report: Report | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    """The usable questions in three parts, and what there was to choose from."""

    parts: Split
    counts: LabelCounts
    memories: list[Memory]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """The answers to the test questions before and after, and what the gates say of them.

    `first` and `second` are the answers without and with the reranker, if there is one.
    """

    before: list[Answer]
    first: list[Answer]
    second: list[Answer] | None
    tuning: Tuning
    verdict: Verdict
    of_reranker: Verdict | None


@dataclass(frozen=True, slots=True)
class Retraining:
    """The store whose labels are learnt from, a way to try a model out in it, and the settings."""

    store: MemoryStore
    trial: Callable[[str], Awaitable[MemoryStore]]
    work: Path
    models: Path
    settings: RetrainSettings
    show: Show
    seconds: dict[str, float] = field(default_factory=dict)

    async def run(self, given: Sequence[Query]) -> Outcome:
        """Train a candidate on the labels and judge it; the store goes on serving what it serves.

        A candidate that passes keeps its vectors in the store, so that promoting it is a switch.

        Raises:
            InvalidInput: no label is of use in this store, or the output folder is in use.
            ModelUnavailable: the base can't be loaded, or the candidate can't be exported.
        """
        self._check_free()
        labelled = await self._labelled(given)
        missing = len(labelled.parts.test) < self.settings.fewest
        if missing or not labelled.parts.train or not labelled.parts.dev:
            few = too_few(len(labelled.parts.test), self.settings.fewest)
            few = few or "the questions can't be parted: they share their answers or their words"
            return Outcome(passed=False, reason=f"No verdict: {few}.")
        base = self.settings.base or await self._own_base()
        mined = await self._mined(labelled.parts.train)
        trained = await self._trained(base, mined, labelled.parts.dev)
        if not trained.learnt:
            return Outcome(passed=False, reason=_nothing_learnt(len(labelled.parts.dev)))
        try:
            report = await self._candidate(base, trained, mined.stats, labelled)
        except BaseException:
            await self._discard()
            raise
        passed = report["verdict"]["promoted"]
        if not passed:
            await self._discard()
        shutil.rmtree(self.work, ignore_errors=True)
        reason = report["verdict"]["reason"]
        return Outcome(passed=passed, reason=reason, folder=self._folder, report=report)

    async def _candidate(
        self, base: str, trained: Trained, mining: MiningStats, labelled: _Labelled
    ) -> Report:
        """Export it, fit its ranking, judge it and publish it."""
        trained, parity = await self._exported(trained, base)
        with self._stage("embedding") as show:
            await self.store.prepare(self._model, show)
        tuning = await self._fitted(labelled.parts.dev)
        second = await self._second_stage(labelled)
        found = await self._judged(labelled, tuning, second)
        _declare(self._folder, tuning=found.tuning.as_dict())
        await self.store.tune(found.tuning, model=self._model)
        report = self._report(base, trained, mining, labelled, parity, second, found)
        await asyncio.to_thread(publish_report, self._folder, report)
        (self._folder / UNFINISHED).unlink()
        return report

    # ------------------------------------------------------------------------------- stages

    async def _labelled(self, given: Sequence[Query]) -> _Labelled:
        queries, counts = await usable(self.store, given)
        memories = [memory async for memory in self.store.memories()]
        sessions = {memory.id: memory.session for memory in memories}
        parts = split(queries, sessions, seed=self.settings.seed)
        return _Labelled(parts=parts, counts=counts, memories=memories)

    async def _mined(self, train: Sequence[Query]) -> Mined:
        with self._stage("mining") as show:
            return await mine(
                self.store,
                train,
                negatives=self.settings.training.negatives,
                seed=self.settings.seed,
                progress=counting(show, len(train)),
            )

    async def _trained(self, base: str, mined: Mined, dev: Sequence[Query]) -> Trained:
        questions = await development(self.store, dev)
        ways = fusion_settings((await self._tuning()).fusion)
        with self._stage("training") as show, _stopping() as stop:
            return await asyncio.to_thread(
                train_encoder,
                base,
                [Example(one.query.text, one.texts[0], one.texts[1:]) for one in mined.examples],
                lambda encode: questions.score(encode, ways),
                _general_knowledge,
                self.work,
                replace(self.settings.training, seed=self.settings.seed),
                _stoppable(show, stop),
            )

    async def _exported(self, trained: Trained, base: str) -> tuple[Trained, Parity]:
        """As large a share of what was learnt as keeps general knowledge once it is quantised."""
        with self._stage("export"):
            while True:
                parity = await asyncio.to_thread(_exported, trained, base, self._folder)
                less = None if (await self._general()).holds else trained.lessened()
                if less is None:
                    return trained, parity
                trained = less

    async def _fitted(self, dev: Sequence[Query]) -> Tuning:
        """Fusion and calibration for the candidate; nothing here answers the general questions."""
        homes = sorted({query.namespace for query in dev}, key=str)
        strangers = [
            Query(f"general-{number}", question, frozenset(), homes[number % len(homes)])
            for number, (question, _) in enumerate(general_pairs())
        ]
        default = replace(DEFAULT_TUNING, diversity=(await self._tuning()).diversity)
        with self._stage("fitting") as show:
            questions = [*dev, *strangers]
            async with await self.trial(self._model) as trial:
                found = await judge(trial, questions, counting(show, len(questions)))
            tuning = await asyncio.to_thread(tuned, found, default)
        await self._tune(tuning)
        return tuning

    async def _second_stage(self, labelled: _Labelled) -> SecondStage | None:
        """A reranker, and how it would be used; None where it is not wanted or of no use."""
        if not self.settings.rerank:
            return None
        settings = replace(self.settings.reranker, seed=self.settings.seed)
        parts, known = labelled.parts, self._known(labelled)
        with self._stage("reranker") as show, _stopping() as stop:
            async with await self.trial(self._model) as trial:
                try:
                    return await add_reranker(
                        *(trial, parts.train, known, parts.dev),
                        *(self._folder, self.work, settings, _stoppable(show, stop)),
                    )
                except ModelUnavailable as error:
                    logger.warning("no reranker: %s", error)
                    return None

    def _known(self, labelled: _Labelled) -> list[Query]:
        """Known-item questions to learn from, none of which the guard asks for."""
        guarded = {name for query in known_item_queries(labelled.memories) for name in query.gold}
        others = [memory for memory in labelled.memories if memory.id not in guarded]
        most = int(KNOWN_SHARE * len(labelled.parts.train))
        return known_item_queries(others, most, seed=self.settings.seed + 1)

    async def _judged(
        self, labelled: _Labelled, tuning: Tuning, second: SecondStage | None
    ) -> _Judged:
        """Ask both pipelines the test questions.

        The embedding has to pass by itself; whether a reranker is added is a gate of its own.
        """
        reranks = second is not None and second.reranking.weight > 0
        asked = labelled.parts.test
        known = known_item_queries(labelled.memories)
        with self._stage("judging") as show:
            shown = counting(show, (3 if reranks else 2) * len(asked))
            before = await ask(self.store, asked, progress=shown)
            async with await self.trial(self._model) as trial:
                first = await ask(trial, asked, progress=shown)
                guards = [await known_items(self.store, trial, known), await self._general()]
                verdict = self._verdict(before, first, guards, min_gain=self.settings.min_gain)
                again, of_reranker = None, None
                if second is not None and reranks:
                    await self._tune(replace(tuning, reranking=second.reranking))
                    again = await ask(trial, asked, progress=shown)
                    kept = await known_items(self.store, trial, known)
                    of_reranker = self._verdict(first, again, [kept])
                    if of_reranker.promoted:
                        tuning = replace(tuning, reranking=second.reranking)
        return _Judged(
            before=before,
            first=first,
            second=again,
            tuning=tuning,
            verdict=verdict,
            of_reranker=of_reranker,
        )

    def _verdict(
        self,
        before: Sequence[Answer],
        after: Sequence[Answer],
        guards: Sequence[GuardResult],
        min_gain: float = 0.0,
    ) -> Verdict:
        return judged(
            _by_metric(before),
            _by_metric(after),
            min_gain=min_gain,
            tolerance=self.settings.tolerance,
            fewest=self.settings.fewest,
            guards=guards,
        )

    async def _general(self) -> GuardResult:
        """What the deployed encoder and the candidate know of the world."""
        deployed = (await self.store.stats()).model
        cache = self.models
        return await asyncio.to_thread(
            lambda: general(
                load_encoder(deployed, cache_dir=cache), load_encoder(self._model, cache_dir=cache)
            )
        )

    # ------------------------------------------------------------------------------ smaller

    @property
    def _folder(self) -> Path:
        return self.settings.output

    @property
    def _model(self) -> str:
        return str(self.settings.output)

    def _check_free(self) -> None:
        if (self._folder / UNFINISHED).is_file():
            shutil.rmtree(self._folder)
        if self._folder.is_file() or (self._folder.is_dir() and any(self._folder.iterdir())):
            raise InvalidInput(
                f"output: {self._folder} is not empty, and a model that serves may lie there; "
                "name a new folder"
            )

    async def _own_base(self) -> str:
        """What the deployed model was trained from; itself where it was not trained here."""
        deployed = (await self.store.stats()).model or EMBEDDED_NAME
        manifest = Path(deployed) / MANIFEST
        declared = json.loads(manifest.read_text("utf-8")) if manifest.is_file() else {}
        return str(declared.get("base", deployed))

    async def _tuning(self) -> Tuning:
        return await self.store.tuning() or DEFAULT_TUNING

    async def _tune(self, tuning: Tuning) -> None:
        await self.store.tune(tuning, model=self._model)

    async def _discard(self) -> None:
        """Take the candidate's vectors out of the store again; its folder stays."""
        if any(model.model == self._model for model in await self.store.models()):
            await self.store.discard(self._model)

    @contextmanager
    def _stage(self, name: str) -> Iterator[Progress]:
        began = time.perf_counter()
        with self.show(name) as show:
            yield show
        self.seconds[name] = time.perf_counter() - began

    def _report(
        self,
        base: str,
        trained: Trained,
        mining: MiningStats,
        labelled: _Labelled,
        parity: Parity,
        second: SecondStage | None,
        found: _Judged,
    ) -> Report:
        parts, counts, settings = labelled.parts, labelled.counts, self.settings
        report: Report = {
            "name": self._folder.name,
            "base": base,
            "command": settings.command,
            "seed": settings.seed,
            "seconds": dict(self.seconds),
            "labels": {
                "queries": counts.queries,
                "labels": counts.labels,
                "by_source": dict(counts.sources),
                "train": len(parts.train),
                "dev": len(parts.dev),
                "test": len(parts.test),
            },
            "mining": asdict(mining),
            "training": _training(trained, settings.training),
            "tuning": found.tuning.as_dict(),
            "scores": _scores(found.before, found.first, found.verdict),
            "by_type": scores_by_type(found.before, found.first),
            "gains": gains_of(found.before, found.first),
            "guards": [guard.as_dict() for guard in found.verdict.guards],
            "verdict": {"promoted": found.verdict.promoted, "reason": found.verdict.reason},
            "latency_ms": latencies(found.before, found.first),
            "parity": parity.as_dict(),
        }
        if found.second is not None and found.of_reranker is not None and second is not None:
            report["reranker"] = {
                "base": self._folder.name,
                "scores": _scores(found.first, found.second, found.of_reranker),
                "settings": {
                    **asdict(second.reranking),
                    "examples": second.examples,
                    "milliseconds": second.milliseconds,
                    "by_weight": {f"{one:g}": score for one, score in second.by_weight.items()},
                    "alike": second.alike,
                },
                "verdict": {
                    "promoted": found.of_reranker.promoted,
                    "reason": found.of_reranker.reason,
                },
                "latency_ms": latencies(found.first, found.second),
            }
        return report


def _training(trained: Trained, settings: TrainingSettings) -> dict[str, Any]:
    return asdict(settings) | {
        "loss": "CachedMultipleNegativesRankingLoss",
        "interpolation": trained.share,
        "by_interpolation": {f"{share:g}": score for share, score in trained.by_share.items()},
        "device": trained.device,
        "precision": trained.precision,
        "curve": trained.curve,
    }


def _scores(before: Sequence[Answer], after: Sequence[Answer], verdict: Verdict) -> Scores:
    """Means and gains; those that the gate judged by are the gate's own."""
    found = scores_between(before, after)
    own = {DECIDING: verdict.gain, REPORTED: verdict.gain_at_1}
    gain = {**found["gain"], **{name: one.as_dict() for name, one in own.items()}}
    return {**found, "gain": gain}


class _Stopped(Exception):
    """The command was interrupted while a thread was training."""


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that is set when the work inside ends, by an interruption too."""
    stop = threading.Event()
    try:
        yield stop
    finally:
        stop.set()


def _stoppable(show: Progress, stop: threading.Event) -> Progress:
    """Ends the training at its next step once nobody waits for it any more."""

    def step(done: int, total: int | None) -> None:
        if stop.is_set():
            raise _Stopped
        show(done, total)

    return step


def _by_metric(answers: Sequence[Answer]) -> Mapping[str, list[float]]:
    return dict(zip(METRICS, scores_of(answers).T.tolist(), strict=True))


def _general_knowledge(encode: Encode) -> float:
    """Mean NDCG@10 on the general questions."""
    questions, passages = zip(*general_pairs(), strict=True)
    scores = general_scores(encode(questions), encode(passages))
    return sum(scores) / len(scores)


def _exported(trained: Trained, base: str, folder: Path) -> Parity:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()
    trained.save(folder)
    parity = publish_onnx(folder)
    _declare(folder, name=folder.name, base=base)
    return parity


def _declare(folder: Path, **values: object) -> None:
    """Write entries of the folder's byheart.json."""
    manifest = folder / MANIFEST
    content = json.loads(manifest.read_text(encoding="utf-8")) | values
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    manifest.write_text(text, encoding="utf-8", newline="\n")


def _nothing_learnt(questions: int) -> str:
    return (
        f"Refused: training made nothing better on {questions} development questions; "
        "label more recalls, or look whether the labels are right."
    )
