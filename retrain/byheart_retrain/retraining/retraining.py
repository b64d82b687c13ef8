"""From labels to a verdict: split, mine, train, export, fit, test, publish.

The candidate is tested through the production recall of the live store, in a vector column of its
own, so that what the gate saw is what a promotion serves. The test questions are asked for the
verdict alone, after everything else has been decided.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from byheart_retrain.evaluation import METRICS, Answer, GuardResult, Verdict, ask, decide, too_few
from byheart_retrain.evaluation.guard import general, general_pairs, general_scores, known_items
from byheart_retrain.labels import known_item_queries, split, usable
from byheart_retrain.mining import MiningResult, MiningStats, mine
from byheart_retrain.progress import Progress, Show, counting
from byheart_retrain.publishing import Parity, Report, publish_onnx, publish_report
from byheart_retrain.publishing.report import scores_of
from byheart_retrain.queries import LabelledQuery
from byheart_retrain.retraining.interruption import stoppable, stopping
from byheart_retrain.retraining.reranker import CandidateReranker, add_reranker
from byheart_retrain.retraining.results import (
    Results,
    SplitLabels,
    Tested,
    TestedReranker,
    report_of,
)
from byheart_retrain.retraining.settings import Outcome, RetrainSettings
from byheart_retrain.training import (
    Encode,
    TrainedEncoder,
    development_set,
    fusion_settings,
    observe,
    train_encoder,
    tuned,
)
from byheart_store import Home, InvalidInput, MemoryStore, ModelUnavailable
from byheart_store.models import EMBEDDED_NAME, declare, declared, load_encoder
from byheart_store.ranking import DEFAULT_TUNING, Tuning

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
"""Lies in a candidate's folder until its report does: a run that was cut off may begin anew."""

KNOWN_ITEM_SHARE = 0.25
"""Of the reranker's questions beside the labelled ones, so many ask by a memory's own words."""

_BUSY = "another retraining is under way in this home; try again when it has ended"


@dataclass(frozen=True, slots=True)
class Retraining:
    """The store whose labels are learnt from, its home, a way to try a model out, the settings.

    The home is the local one even where the store lies at a URI.
    """

    store: MemoryStore
    home: Home
    trial: Callable[[str], Awaitable[MemoryStore]]
    settings: RetrainSettings
    show: Show
    seconds: dict[str, float] = field(default_factory=dict)

    async def run(self, given: Sequence[LabelledQuery]) -> Outcome:
        """Train a candidate on the labels and test it; the store goes on serving what it serves.

        A candidate that passes keeps its vectors in the store, so that promoting it is a switch.

        Raises:
            StoreBusy: another retraining is under way in this home.
            InvalidInput: no label is of use in this store, or the output folder is in use.
            ModelUnavailable: the base can't be loaded, or the candidate can't be exported.
        """
        self.home.folder.mkdir(parents=True, exist_ok=True)
        with self.home.exclusively("retrain", _BUSY):
            return await self._run(given)

    async def _run(self, given: Sequence[LabelledQuery]) -> Outcome:
        self._check_free()
        labels = await self._split(given)
        shortage = _shortage(labels, self.settings.fewest)
        if shortage is not None:
            return Outcome(passed=False, reason=f"No verdict: {shortage}.")
        base = self.settings.base or await self._own_base()
        mined = await self._mined(labels.parts.train)
        trained = await self._trained(base, mined, labels.parts.dev)
        if not trained.learnt:
            return Outcome(passed=False, reason=_nothing_learnt(len(labels.parts.dev)))
        try:
            report = await self._candidate(base, trained, mined.stats, labels)
        except BaseException:
            await self._discard()
            raise
        passed = report["verdict"]["promoted"]
        if not passed:
            await self._discard()
        shutil.rmtree(self.home.training, ignore_errors=True)
        reason = report["verdict"]["reason"]
        return Outcome(passed=passed, reason=reason, folder=self._folder, report=report)

    async def _candidate(
        self, base: str, trained: TrainedEncoder, mining: MiningStats, labels: SplitLabels
    ) -> Report:
        """Export it, fit its ranking, test it and publish it."""
        trained, parity = await self._exported(trained, base)
        with self._stage("embedding") as show:
            await self.store.prepare(self._model, show)
        tuning = await self._fitted(labels.parts.dev)
        reranker = await self._reranker(labels)
        test = await self._tested(labels, tuning, reranker)
        declare(self._folder, tuning=test.tuning.as_dict())
        await self._tune(test.tuning)
        results = Results(
            base=base,
            trained=trained,
            mining=mining,
            labels=labels,
            parity=parity,
            reranker=reranker,
            test=test,
        )
        report = report_of(results, self.settings, self.seconds)
        await asyncio.to_thread(publish_report, self._folder, report)
        (self._folder / UNFINISHED).unlink()
        return report

    async def _split(self, given: Sequence[LabelledQuery]) -> SplitLabels:
        queries, counts = await usable(self.store, given)
        memories = [memory async for memory in self.store.memories()]
        sessions = {memory.id: memory.session for memory in memories}
        parts = split(queries, sessions, seed=self.settings.seed)
        return SplitLabels(parts=parts, counts=counts, memories=memories)

    async def _mined(self, train: Sequence[LabelledQuery]) -> MiningResult:
        with self._stage("mining") as show:
            return await mine(
                self.store,
                train,
                negatives=self.settings.training.negatives,
                seed=self.settings.seed,
                progress=counting(show, len(train)),
            )

    async def _trained(
        self, base: str, mined: MiningResult, dev: Sequence[LabelledQuery]
    ) -> TrainedEncoder:
        questions = await development_set(self.store, dev)
        ways = fusion_settings((await self._tuning()).fusion)
        with self._stage("training") as show, stopping() as stop:
            return await asyncio.to_thread(
                train_encoder,
                base,
                mined.for_training(),
                lambda encode: questions.score(encode, ways),
                _general_knowledge,
                self.home.training,
                replace(self.settings.training, seed=self.settings.seed),
                stoppable(show, stop),
            )

    async def _exported(self, trained: TrainedEncoder, base: str) -> tuple[TrainedEncoder, Parity]:
        """As large a share of what was learnt as keeps general knowledge once it is quantised."""
        with self._stage("export"):
            while True:
                parity = await asyncio.to_thread(_exported, trained, base, self._folder)
                less = None if (await self._general()).holds else trained.lessened()
                if less is None:
                    return trained, parity
                trained = less

    async def _fitted(self, dev: Sequence[LabelledQuery]) -> Tuning:
        """Fusion and calibration for the candidate; nothing here answers the general questions."""
        namespaces = sorted({query.namespace for query in dev}, key=str)
        unanswerable = [
            LabelledQuery(
                f"general-{number}", question, frozenset(), namespaces[number % len(namespaces)]
            )
            for number, (question, _) in enumerate(general_pairs())
        ]
        default = replace(DEFAULT_TUNING, diversity=(await self._tuning()).diversity)
        with self._stage("fitting") as show:
            questions = [*dev, *unanswerable]
            async with await self.trial(self._model) as trial:
                observations = await observe(trial, questions, counting(show, len(questions)))
            tuning = await asyncio.to_thread(tuned, observations, default)
        await self._tune(tuning)
        return tuning

    async def _reranker(self, labels: SplitLabels) -> CandidateReranker | None:
        """A reranker, and how it would be used; None where it is not wanted or of no use."""
        if not self.settings.rerank:
            return None
        settings = replace(self.settings.reranker, seed=self.settings.seed)
        parts, extra = labels.parts, self._unguarded(labels)
        with self._stage("reranker") as show, stopping() as stop:
            async with await self.trial(self._model) as trial:
                try:
                    return await add_reranker(
                        *(trial, parts.train, extra, parts.dev),
                        *(self._folder, self.home.training, settings, stoppable(show, stop)),
                    )
                except ModelUnavailable as error:
                    logger.warning("no reranker: %s", error)
                    return None

    def _unguarded(self, labels: SplitLabels) -> list[LabelledQuery]:
        """Known-item questions to learn from, none of which the guard asks for."""
        guarded = {name for query in known_item_queries(labels.memories) for name in query.gold}
        others = [memory for memory in labels.memories if memory.id not in guarded]
        most = int(KNOWN_ITEM_SHARE * len(labels.parts.train))
        return known_item_queries(others, most, seed=self.settings.seed + 1)

    async def _tested(
        self, labels: SplitLabels, tuning: Tuning, reranker: CandidateReranker | None
    ) -> Tested:
        """Ask both pipelines the test questions.

        The embedding has to pass by itself; whether a reranker is added is a gate of its own.
        """
        reranks = reranker is not None and reranker.reranking.weight > 0
        asked = labels.parts.test
        guarded = known_item_queries(labels.memories)
        with self._stage("judging") as show:
            advance = counting(show, (3 if reranks else 2) * len(asked))
            before = await ask(self.store, asked, progress=advance)
            async with await self.trial(self._model) as trial:
                after = await ask(trial, asked, progress=advance)
                guards = [await known_items(self.store, trial, guarded), await self._general()]
                verdict = self._verdict(before, after, guards, min_gain=self.settings.min_gain)
                with_reranker = None
                if reranker is not None and reranks:
                    reranking = replace(tuning, reranking=reranker.reranking)
                    await self._tune(reranking)
                    answers = await ask(trial, asked, progress=advance)
                    guard = await known_items(self.store, trial, guarded)
                    of_reranker = self._verdict(after, answers, [guard])
                    with_reranker = TestedReranker(answers=answers, verdict=of_reranker)
                    tuning = reranking if of_reranker.passed else tuning
        return Tested(
            before=before, after=after, tuning=tuning, verdict=verdict, reranker=with_reranker
        )

    def _verdict(
        self,
        before: Sequence[Answer],
        after: Sequence[Answer],
        guards: Sequence[GuardResult],
        min_gain: float = 0.0,
    ) -> Verdict:
        return decide(
            _by_metric(before),
            _by_metric(after),
            min_gain=min_gain,
            tolerance=self.settings.tolerance,
            fewest=self.settings.fewest,
            guards=guards,
        )

    async def _general(self) -> GuardResult:
        """What the deployed encoder and the candidate know of the world."""
        deployed, cache = (await self.store.stats()).model, self.home.downloads
        return await asyncio.to_thread(
            lambda: general(
                load_encoder(deployed, cache_dir=cache), load_encoder(self._model, cache_dir=cache)
            )
        )

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
        return str(declared(Path(deployed)).get("base", deployed))

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


def _shortage(labels: SplitLabels, fewest: int) -> str | None:
    """Why the questions don't do for a verdict, in words."""
    parts = labels.parts
    if len(parts.test) >= fewest and parts.train and parts.dev:
        return None
    few = too_few(len(parts.test), fewest)
    return few or "the questions can't be parted: they share their answers or their words"


def _by_metric(answers: Sequence[Answer]) -> Mapping[str, list[float]]:
    return dict(zip(METRICS, scores_of(answers).T.tolist(), strict=True))


def _general_knowledge(encode: Encode) -> float:
    """Mean NDCG@10 on the general questions."""
    questions, passages = zip(*general_pairs(), strict=True)
    scores = general_scores(encode(questions), encode(passages))
    return sum(scores) / len(scores)


def _exported(trained: TrainedEncoder, base: str, folder: Path) -> Parity:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).touch()
    trained.save(folder)
    parity = publish_onnx(folder)
    declare(folder, name=folder.name, base=base)
    return parity


def _nothing_learnt(questions: int) -> str:
    return (
        f"Refused: training made nothing better on {questions} development questions; "
        "label more recalls, or look whether the labels are right."
    )
