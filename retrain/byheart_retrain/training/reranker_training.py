"""Training a small cross-encoder that starts from the trained encoder.

It reads a question together with each of the passages that the recall ranks highest, and
learns to put the one that answers first: the listwise softmax loss of ListNet (Cao et al., ICML
2007), with all the weight on the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byheart_retrain.mining import TrainingExample
from byheart_retrain.trainer_internals import (
    curve_of,
    latest_checkpoint,
    reporting,
    without_card,
)
from byheart_retrain.training.hardware import device
from byheart_retrain.training.trainer_settings import content_key, quiet, shared_arguments

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_CERTAIN = 20.0
"""A label so much above the others that its softmax is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerSettings:
    """Hyperparameters; the defaults were chosen on development questions."""

    epochs: int = 2
    fewest_steps: int = 100
    negatives: int = 5
    batch: int = 16
    learning_rate: float = 1e-4
    warmup: float = 0.1
    longest: int = 96
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedReranker:
    """The cross-encoder, the training loss over its steps, and how long it took."""

    model: CrossEncoder
    curve: list[dict[str, float]]
    seconds: float

    def save(self, folder: Path) -> None:
        """Write the folder that sentence-transformers' CrossEncoder loads."""
        with quiet():
            self.model.save_pretrained(str(folder), create_model_card=False)


def train_reranker(
    encoder: Path,
    examples: Sequence[TrainingExample],
    work: Path,
    settings: RerankerSettings,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedReranker:
    """Tune a cross-encoder that starts from the encoder in a folder, in one pass.

    The examples hold each label `epochs` times, with other negatives each time.
    An interrupted training goes on from its checkpoint under `work`.
    """
    began = time.perf_counter()
    with quiet():
        from sentence_transformers.cross_encoder import CrossEncoderTrainer
        from sentence_transformers.cross_encoder.losses import ListNetLoss
        from transformers import PrinterCallback

        model = _cross_encoder(encoder, settings)
        key = content_key(asdict(settings), [asdict(example) for example in examples])
        checkpoints = work / f"reranker-{key}"
        trainer = CrossEncoderTrainer(
            model=without_card(model),
            args=_arguments(checkpoints, settings),
            train_dataset=_dataset(examples),
            # All pairs in one pass: a few at a time took twice as long.
            loss=ListNetLoss(model, mini_batch_size=-1),
            callbacks=[reporting(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=latest_checkpoint(checkpoints))
    return TrainedReranker(
        model=model,
        curve=curve_of(trainer.state.log_history),
        seconds=time.perf_counter() - began,
    )


def _cross_encoder(encoder: Path, settings: RerankerSettings) -> CrossEncoder:
    from sentence_transformers import CrossEncoder
    from torch import nn

    model: CrossEncoder = CrossEncoder(
        str(encoder),
        num_labels=1,
        max_length=settings.longest,
        activation_fn=nn.Identity(),
        device=device(),
    )
    return model


def _arguments(checkpoints: Path, settings: RerankerSettings) -> Any:
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    return CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=1,
        per_device_train_batch_size=settings.batch // 4,
        gradient_accumulation_steps=4,
        learning_rate=settings.learning_rate,
        warmup_ratio=settings.warmup,
        save_steps=50,
        save_total_limit=1,
        logging_steps=10,
        **shared_arguments(settings.seed),
    )


def _dataset(examples: Sequence[TrainingExample]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "query": [example.question for example in examples],
            "passages": [[example.positive, *example.negatives] for example in examples],
            "labels": [[_CERTAIN] + [0.0] * len(example.negatives) for example in examples],
        }
    )
