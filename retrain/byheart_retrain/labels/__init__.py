"""Labels: read from files and from the recall log, merged, checked against a store, split."""

from byheart_retrain.labels.label_files import read_labels
from byheart_retrain.labels.merging import merged
from byheart_retrain.labels.own_store import OwnQueries, known_item_queries, own_queries
from byheart_retrain.labels.splitting import FEWEST_TESTED, Split, longmemeval_split, split
from byheart_retrain.labels.store_labels import (
    LabelCounts,
    labelled_queries,
    store_queries,
    usable,
)

__all__ = [
    "FEWEST_TESTED",
    "LabelCounts",
    "OwnQueries",
    "Split",
    "known_item_queries",
    "labelled_queries",
    "longmemeval_split",
    "merged",
    "own_queries",
    "read_labels",
    "split",
    "store_queries",
    "usable",
]
