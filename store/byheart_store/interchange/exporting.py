"""Memories written as JSONL, without loss."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from byheart_store.records import Memory


async def write_jsonl(memories: AsyncIterable[Memory], write: Callable[[bytes], object]) -> int:
    """Write one JSON object a line, in UTF-8, and return how many."""
    count = 0
    async for memory in memories:
        write(json.dumps(memory.as_dict(), ensure_ascii=False).encode() + b"\n")
        count += 1
    return count


@contextmanager
def replacing(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Yield a `write` whose bytes take the place of the file only once all are written.

    Bytes are compressed when the name ends in `.gz`.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        # A pipe or a device is written to, not replaced.
        with path.open("wb") as device:
            yield device.write
        return
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
        try:
            with _compressing(path, draft) as write:
                yield write
            draft.close()
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise


@contextmanager
def _compressing(path: Path, draft: IO[bytes]) -> Iterator[Callable[[bytes], object]]:
    if path.suffix != ".gz":
        yield draft.write
        return
    with gzip.GzipFile(filename="", fileobj=draft, mode="wb", mtime=0) as stream:
        yield stream.write
