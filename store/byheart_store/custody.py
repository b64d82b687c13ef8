"""What is done to a home as a whole: backed up and restored, examined and mended."""

from byheart_store.upkeep.backup import Archived, back_up, restore
from byheart_store.upkeep.repair import Doctor, Examined, Finding

__all__ = ["Archived", "Doctor", "Examined", "Finding", "back_up", "restore"]
