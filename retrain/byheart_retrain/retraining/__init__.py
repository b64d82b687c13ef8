"""Retraining: the whole way from labels to a candidate with a verdict."""

from byheart_retrain.retraining.retraining import Retraining
from byheart_retrain.retraining.settings import Outcome, RetrainSettings

__all__ = ["Outcome", "RetrainSettings", "Retraining"]
