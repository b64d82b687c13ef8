"""Upkeep: other models, forgetting for good, backups, and the mending of what is damaged."""
