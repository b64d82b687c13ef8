"""Ranking: pure functions from evidence to an order, with the parameters that may be fitted.

No module here knows of a database, a model or a file.
"""

from byheart_store.ranking.evidence import Evidence
from byheart_store.ranking.fusion import NEIGHBOURS, Fusion, best_of_passages
from byheart_store.ranking.order import best_passages, fused
from byheart_store.ranking.relevance import Calibration, hit_features, query_features
from byheart_store.ranking.reranking import Reranking, readable, reranked
from byheart_store.ranking.tuning import DEFAULT_TUNING, Tuning

__all__ = [
    "DEFAULT_TUNING",
    "NEIGHBOURS",
    "Calibration",
    "Evidence",
    "Fusion",
    "Reranking",
    "Tuning",
    "best_of_passages",
    "best_passages",
    "fused",
    "hit_features",
    "query_features",
    "readable",
    "reranked",
]
