"""Finding what is wrong with a store, even one that does not open, and mending it."""

from byheart_store.upkeep.repair.doctor import Doctor
from byheart_store.upkeep.repair.findings import Examined, Finding

__all__ = ["Doctor", "Examined", "Finding"]
