"""Training: the encoder, the reranker, and the few parameters of a recall, learnt from labels."""

from byheart_retrain.training.development import development_set
from byheart_retrain.training.encoder_training import (
    TrainedEncoder,
    TrainingSettings,
    train_encoder,
)
from byheart_retrain.training.fitting import Fit, fit, fusion_settings, tuned
from byheart_retrain.training.observations import Observation, observe
from byheart_retrain.training.reranker_training import (
    RerankerSettings,
    TrainedReranker,
    train_reranker,
)
from byheart_retrain.training.vectors import Encode

__all__ = [
    "Encode",
    "Fit",
    "Observation",
    "RerankerSettings",
    "TrainedEncoder",
    "TrainedReranker",
    "TrainingSettings",
    "development_set",
    "fit",
    "fusion_settings",
    "observe",
    "train_encoder",
    "train_reranker",
    "tuned",
]
