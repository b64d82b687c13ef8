"""Fine-tuning an embedding on mined examples, with sentence-transformers' own trainer.

The weights that are kept lie on the line between the base and the tuned ones, where the
development questions are answered best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_retrain.mining import TrainingExample
from byheart_retrain.trainer_internals import (
    EVALUATED,
    curve_of,
    evaluator,
    latest_checkpoint,
    reporting,
    without_card,
)
from byheart_retrain.training.base import load_base
from byheart_retrain.training.examples_table import dataset_of
from byheart_retrain.training.hardware import precision
from byheart_retrain.training.interpolation import INTERPOLATIONS, best_share, interpolated
from byheart_retrain.training.trainer_settings import (
    content_key,
    passes,
    quiet,
    shared_arguments,
)
from byheart_retrain.training.vectors import Measure, encoding
from byheart_store import InvalidInput

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import nn

_EVALUATIONS = 8
_PATIENCE = 3
_TOKENS_AT_ONCE = 5_000
"""What is read in one pass keeps its activations in memory, about a third of a megabyte a token."""
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Hyperparameters; the defaults were chosen on development questions.

    Few examples are gone through more often, until `fewest_steps` are reached.
    """

    epochs: int = 3
    fewest_steps: int = 100
    batch: int = 16
    negatives: int = 4
    learning_rate: float = 5e-5
    warmup: float = 0.1
    scale: float = 20.0
    longest: int = 256
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedEncoder:
    """The chosen weights, and how they came about.

    `curve` has one entry a report: its step with the training loss or the development score.
    `by_share` are the development scores of the weights between base and tuned, and `kept` what
    they reach in general knowledge. `before` and `tuned` are the weights that were interpolated.
    """

    model: SentenceTransformer
    share: float
    by_share: dict[float, float]
    kept: dict[float, float]
    curve: list[dict[str, float]]
    seconds: float
    device: str
    precision: str
    before: dict[str, torch.Tensor]
    tuned: dict[str, torch.Tensor]

    def lessened(self) -> TrainedEncoder | None:
        """The same with the best of the smaller shares, set in the model; None where none gains."""
        smaller = {share: score for share, score in self.by_share.items() if share < self.share}
        share = best_share(smaller, self.kept)
        if not share:
            return None
        self.model.load_state_dict(interpolated(self.before, self.tuned, share))
        return replace(self, share=share)

    @property
    def learnt(self) -> bool:
        """Whether any tuned weights answer the development questions better than the base."""
        return self.share > 0

    def save(self, folder: Path) -> None:
        """Write the folder that sentence-transformers loads."""
        with quiet():
            self.model.save_pretrained(str(folder), create_model_card=False)


def train_encoder(
    base: str,
    examples: Sequence[TrainingExample],
    measure: Measure,
    general: Measure,
    work: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedEncoder:
    """Tune the base on the examples and choose the weights that `measure` likes best.

    Weights that lose more than `MOST_FORGOTTEN` of what the base reaches in `general` are not
    chosen. Checkpoints lie under `work`: an interrupted training goes on from there when it is
    called again with the same arguments. `progress` gets steps done and steps in all.

    Raises:
        InvalidInput: there are no examples.
        ModelUnavailable: the base can't be loaded.
    """
    if not examples:
        raise InvalidInput("training: no example is left; label more recalls: byheart label")
    began = time.perf_counter()
    model = load_base(base)
    model.max_seq_length = min(settings.longest, model.max_seq_length or settings.longest)
    before = _weights(model)
    with quiet():
        key = content_key(base, asdict(settings), [asdict(example) for example in examples])
        checkpoints = work / f"encoder-{key}"
        curve = _tuned(model, examples, measure, checkpoints, settings, progress)
        tuned = _weights(model)
        by_share, kept = {}, {}
        for share in INTERPOLATIONS:
            model.load_state_dict(interpolated(before, tuned, share))
            encode = encoding(model)
            by_share[share], kept[share] = measure(encode), general(encode)
        share = best_share(by_share, kept)
        model.load_state_dict(interpolated(before, tuned, share))
    return TrainedEncoder(
        model=model,
        share=share,
        by_share=by_share,
        kept=kept,
        curve=curve,
        seconds=time.perf_counter() - began,
        device=str(model.device),
        precision=precision(),
        before=before,
        tuned=tuned,
    )


def _weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _tuned(
    model: SentenceTransformer,
    examples: Sequence[TrainingExample],
    measure: Measure,
    checkpoints: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, float]]:
    """Train the model in place, up to its best evaluation; returns the curve."""
    from sentence_transformers import SentenceTransformerTrainer
    from transformers import EarlyStoppingCallback, PrinterCallback

    trainer = SentenceTransformerTrainer(
        model=without_card(model),
        args=_arguments(len(examples), checkpoints, settings),
        train_dataset=dataset_of(examples),
        loss=_loss(model, examples, settings),
        evaluator=evaluator(lambda trained: measure(encoding(trained))),
        callbacks=[EarlyStoppingCallback(_PATIENCE), reporting(progress)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=latest_checkpoint(checkpoints))
    return curve_of(trainer.state.log_history)


def _loss(
    model: SentenceTransformer, examples: Sequence[TrainingExample], settings: TrainingSettings
) -> nn.Module:
    """In-batch and hard negatives, in passes for which there is memory (GradCache, Gao 2021)."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    lengths = sorted(len(example.positive) for example in examples)
    longest = min(settings.longest, 1 + lengths[len(lengths) * 9 // 10] // _CHARACTERS_PER_TOKEN)
    at_once = max(4, _TOKENS_AT_ONCE // longest)
    if at_once >= settings.batch * (2 + settings.negatives):
        return MultipleNegativesRankingLoss(model, scale=settings.scale)
    return CachedMultipleNegativesRankingLoss(model, scale=settings.scale, mini_batch_size=at_once)


def _arguments(examples: int, checkpoints: Path, settings: TrainingSettings) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    epochs = passes(examples, settings.batch, settings.epochs, settings.fewest_steps)
    steps = epochs * math.ceil(examples / settings.batch)
    between = max(1, steps // _EVALUATIONS)
    return SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        warmup_ratio=settings.warmup,
        # A question's own passage must not stand among the others' as a negative.
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        eval_strategy="steps",
        eval_steps=between,
        save_strategy="steps",
        save_steps=between,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=EVALUATED,
        greater_is_better=True,
        logging_steps=max(1, between // 4),
        **shared_arguments(settings.seed),
    )
