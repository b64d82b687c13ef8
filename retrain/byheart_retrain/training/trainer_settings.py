"""What every training here asks of sentence-transformers' trainers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from byheart_retrain.training.hardware import precision

_MOST_PASSES = 12


def passes(examples: int, batch: int, fewest: int, fewest_steps: int) -> int:
    """How often the examples are gone through."""
    once = math.ceil(examples / batch)
    return max(fewest, min(_MOST_PASSES, math.ceil(fewest_steps / once)))


def shared_arguments(seed: int) -> dict[str, Any]:
    """The hardware's precision, and silence."""
    import torch

    own = precision()
    return {
        "seed": seed,
        "bf16": own == "bf16",
        "fp16": own == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,
    }


def content_key(*content: object) -> str:
    """The same for the same training and for no other."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


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
