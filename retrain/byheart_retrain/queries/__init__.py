"""Labelled queries: what one is, how files hold them, and which of them ask the same."""

from byheart_retrain.queries.labelled_query import LabelledQuery, asked_elsewhere

__all__ = ["LabelledQuery", "asked_elsewhere"]
