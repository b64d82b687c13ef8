"""The library: embedding, tables, ranking and the recall log behind one `MemoryStore`."""

import os

# ONNX Runtime sends telemetry and writes a device id unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# LanceDB warns in the terminal of what is told in one line anyway.
os.environ.setdefault("LANCEDB_LOG", "error")

from byheart_store.errors import (
    AccessDenied,
    ByHeartError,
    InvalidInput,
    ModelMismatch,
    ModelUnavailable,
    StoreBusy,
    StoreUnavailable,
    UnknownMemory,
    UnknownRecall,
)
from byheart_store.home import Home
from byheart_store.inputs import parse_time
from byheart_store.moments import iso, now
from byheart_store.records import (
    DEFAULT_NAMESPACE,
    WITH_REPLACED,
    Durability,
    Explanation,
    FeedbackCounts,
    Filter,
    Forgotten,
    Hit,
    Label,
    LoggedRecall,
    Memory,
    Mode,
    NewMemory,
    Origin,
    Purged,
    Recall,
    Receipt,
    Reindexed,
    StoreModel,
    StoreStats,
)
from byheart_store.store import MemoryStore
from byheart_store.tables.schema import FORMAT

__all__ = [
    "DEFAULT_NAMESPACE",
    "FORMAT",
    "WITH_REPLACED",
    "AccessDenied",
    "ByHeartError",
    "Durability",
    "Explanation",
    "FeedbackCounts",
    "Filter",
    "Forgotten",
    "Hit",
    "Home",
    "InvalidInput",
    "Label",
    "LoggedRecall",
    "Memory",
    "MemoryStore",
    "Mode",
    "ModelMismatch",
    "ModelUnavailable",
    "NewMemory",
    "Origin",
    "Purged",
    "Recall",
    "Receipt",
    "Reindexed",
    "StoreBusy",
    "StoreModel",
    "StoreStats",
    "StoreUnavailable",
    "UnknownMemory",
    "UnknownRecall",
    "iso",
    "now",
    "parse_time",
]
