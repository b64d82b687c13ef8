"""The memories of a file, read as they are asked for.

`beir` is a folder with `corpus.jsonl` or `corpus.jsonl.gz`; `jsonl` holds one memory a line, as
`write_jsonl` writes it. A line made by hand needs nothing but `text`. Gzip is recognised by its
first bytes, whatever the file is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from byheart_store.errors import InvalidInput
from byheart_store.interchange.lines import memory_of_beir, memory_of_line
from byheart_store.interchange.source import Row, file_in, numbered_objects
from byheart_store.records import NewMemory

Format = Literal["beir", "jsonl"]


def read(path: Path, file_format: Format, namespace: str | None = None) -> Iterator[NewMemory]:
    """The memories of a file, read as they are asked for; `namespace` overrides their own.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    memories = read_beir(path) if file_format == "beir" else read_jsonl(path)
    if namespace is None:
        return memories
    return (replace(memory, namespace=namespace) for memory in memories)


def read_beir(path: Path) -> Iterator[NewMemory]:
    """The corpus of a BEIR folder; `metadata` that names no field stays metadata.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    return _read(_corpus(path), memory_of_beir)


def read_jsonl(path: Path) -> Iterator[NewMemory]:
    """The memories of a JSONL file, or of standard input when the path is `-`.

    Raises:
        InvalidInput: the path or a line can't be read; the message says which and why.
    """
    return _read(path, memory_of_line)


def _corpus(path: Path) -> Path:
    if not path.is_dir():
        return path
    corpus = file_in(path, "corpus.jsonl", "corpus.jsonl.gz")
    if corpus is None:
        raise InvalidInput(
            f"{path}: holds no corpus.jsonl or corpus.jsonl.gz; give the folder of a BEIR dataset"
        )
    return corpus


def _read(path: Path, parse: Callable[[Row], NewMemory]) -> Iterator[NewMemory]:
    for where, row in numbered_objects(path):
        try:
            yield parse(row)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None
