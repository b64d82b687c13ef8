"""Mining: what the recall ranks for labelled queries, and the examples made of it."""

from byheart_retrain.mining.examples import MinedExample, MiningResult, MiningStats, TrainingExample
from byheart_retrain.mining.hard_negatives import mine
from byheart_retrain.mining.rankings import RankedList, rank, texts_of_passages

__all__ = [
    "MinedExample",
    "MiningResult",
    "MiningStats",
    "RankedList",
    "TrainingExample",
    "mine",
    "rank",
    "texts_of_passages",
]
