"""Recall: from a question to its hits, and the log of what was asked."""
