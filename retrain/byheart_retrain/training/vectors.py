"""How a model in training turns texts into vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from byheart_retrain.training.hardware import precision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    Floats: TypeAlias = NDArray[np.float32]

Encode: TypeAlias = "Callable[[Sequence[str]], Floats]"
"""n texts -> (n, d) unit rows."""

Measure: TypeAlias = Callable[[Encode], float]
"""How well an embedding answers some questions; higher is better."""

_ENCODED_AT_ONCE = 64


def encoding(model: SentenceTransformer) -> Encode:
    """How the model in training turns texts into unit rows, in the precision it is trained in."""
    import numpy as np
    import torch

    def encode(texts: Sequence[str]) -> Floats:
        kind, enabled = model.device.type, precision() == "bf16"
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled):
            rows: Floats = model.encode(
                list(texts),
                batch_size=_ENCODED_AT_ONCE,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return rows.astype(np.float32)

    return encode
