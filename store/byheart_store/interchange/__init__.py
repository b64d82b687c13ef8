"""Interchange: memories as files, read lazily and without harm, written without loss."""

from byheart_store.interchange.exporting import replacing, write_jsonl
from byheart_store.interchange.importing import Imported, store_all
from byheart_store.interchange.reading import Format, read, read_beir, read_jsonl
from byheart_store.interchange.source import STANDARD_INPUT, content, file_in, json_objects

__all__ = [
    "STANDARD_INPUT",
    "Format",
    "Imported",
    "content",
    "file_in",
    "json_objects",
    "read",
    "read_beir",
    "read_jsonl",
    "replacing",
    "store_all",
    "write_jsonl",
]
