"""All that ByHeart relies on of sentence-transformers, transformers and torch beyond their manuals.

    a model's `_create_model_card` and `model_card_data.widget`    the card that a save writes
    `TrainerCallback.on_step_end`                                  called after each step
    `checkpoint-*` with `trainer_state.json`                       written last, so it is whole
    the log's "step", "loss" and "eval_" before a metric           what a training tells of itself
    `SentenceEvaluator.primary_metric`                             read before each evaluation
    `Pooling.pooling_mode`, the names of module classes            how a model is made
    `torch.cpu.get_capabilities`                                   which products are fast

tests/retrain/test_trainer_internals.py fails where a new version moves one of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerCallback

M = TypeVar("M")

_METRIC = "dev_ndcg@10"
EVALUATED = f"eval_{_METRIC}"
"""What the trainer calls the development score."""

_STATE = "trainer_state.json"


def without_card(model: M) -> M:
    """The same model, which writes no card: the trainer's own would quote what it learns from."""
    internals: Any = model
    internals.model_card_data.widget = [{"text": "none"}]  # or it would draw some, behind a bar
    internals._create_model_card = lambda *_, **__: None
    return model


def evaluator(measure: Callable[[Any], float]) -> Any:
    """Gives the trainer the development score of the model in training."""
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

    class Development(SentenceEvaluator):
        """Asks the development questions."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.primary_metric = _METRIC

        def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
            return {_METRIC: measure(model)}

    return Development()


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
    names = {"loss": "loss", EVALUATED: "dev"}
    return [
        {"step": entry["step"], short: float(entry[name])}
        for entry in history
        for name, short in names.items()
        if name in entry
    ]


def latest_checkpoint(checkpoints: Path) -> str | None:
    """Where an interrupted training goes on from."""
    from transformers.trainer_utils import get_last_checkpoint

    for folder in checkpoints.glob("checkpoint-*"):
        if not (folder / _STATE).is_file():
            shutil.rmtree(folder)  # cut off while it was being written
    return get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None


def modules_of(model: SentenceTransformer) -> Mapping[str, Any]:
    """What a sentence-transformers model is made of, by the names of the classes."""
    return {type(module).__name__: module for module in model}


def pooling_of(modules: Mapping[str, Any]) -> str:
    """How a model makes one vector of its tokens' vectors."""
    return str(modules["Pooling"].pooling_mode)


def processor_multiplies_bf16() -> bool:
    """Whether the processor does so itself; elsewhere it is slower than fp32."""
    import torch

    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
