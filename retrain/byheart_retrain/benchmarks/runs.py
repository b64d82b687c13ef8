"""TREC run and qrels files, as trec_eval, ir-measures and pytrec_eval read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from byheart_store import InvalidInput


def write_run(path: Path, rankings: Mapping[str, Sequence[str]], tag: str) -> None:
    """Write `query Q0 memory rank score tag` lines; the score falls with the rank, as tools sort.

    White space in an id, which the format can't hold, is percent-encoded.
    """
    lines = (
        f"{_encoded(query)} Q0 {_encoded(memory)} {rank} {len(ranking) - rank + 1} {tag}\n"
        for query, ranking in rankings.items()
        for rank, memory in enumerate(ranking, start=1)
    )
    path.write_text("".join(lines), encoding="utf-8")


def write_qrels(path: Path, gold: Mapping[str, Iterable[str]]) -> None:
    """Write `query 0 memory 1` lines."""
    lines = (
        f"{_encoded(query)} 0 {_encoded(memory)} 1\n"
        for query, memories in gold.items()
        for memory in sorted(memories)
    )
    path.write_text("".join(lines), encoding="utf-8")


def read_run(path: Path) -> dict[str, list[str]]:
    """The ranking of each query, by falling score, ties by rank; a memory counts once.

    Raises:
        InvalidInput: the file can't be read, or a line is not of six fields.
    """
    rows: dict[str, list[tuple[float, int, str]]] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            query, _, memory, rank, score, _ = line.split()
            rows.setdefault(unquote(query), []).append((-float(score), int(rank), unquote(memory)))
        except ValueError:
            raise InvalidInput(
                f"{path}:{number}: is no line of a TREC run; write: query Q0 memory rank score tag"
            ) from None
    return {
        query: list(dict.fromkeys(memory for *_, memory in sorted(lines)))
        for query, lines in rows.items()
    }


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: can't be read ({error}); give a run of byheart eval") from None


def _encoded(name: str) -> str:
    return quote(name, safe="!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~") if _needs(name) else name


def _needs(name: str) -> bool:
    return "%" in name or any(character.isspace() for character in name)
