"""FastEmbed's catalogue: models by name, from the cache or the model hub."""

from __future__ import annotations

import threading
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from byheart_store.errors import ModelUnavailable
from byheart_store.models import fastembed_internals
from byheart_store.models.encoder import Encoder
from byheart_store.models.opening import digests_of, first_run, open_model, reading_of
from byheart_store.models.passages import EMBEDDED_NAME
from byheart_store.models.verifying import one_line

if TYPE_CHECKING:
    from fastembed import TextEmbedding

_ASK = "Represent this sentence for searching relevant passages: "
_INSTRUCT = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
)
# What the model cards ask for and FastEmbed 0.9 leaves to its caller: (query, passage).
_PUBLISHED_PREFIXES = {
    "baai/bge-base-en": (_ASK, ""),
    "baai/bge-large-en": (_ASK, ""),
    "baai/bge-small-en": (_ASK, ""),
    "baai/bge-small-zh": ("为这个句子生成表示以用于检索相关文章：", ""),
    "google/embeddinggemma": ("task: search result | query: ", "title: none | text: "),
    "intfloat/": ("query: ", "passage: "),
    "mixedbread-ai/": (_ASK, ""),
    "nomic-ai/": ("search_query: ", "search_document: "),
    "qwen/qwen3-embedding": (_INSTRUCT, ""),
    "snowflake/": (_ASK, ""),
}


def load_from_catalogue(name: str, cache_dir: Path, threads: int, timeout: float) -> Encoder:
    """The encoder of a model that FastEmbed knows; the hub has `timeout` seconds to answer at all.

    Raises:
        ModelUnavailable: unknown, not downloadable, or damaged.
    """
    known = _known_name(name)
    with fastembed_internals.quiet():
        model = _cached(known, cache_dir) or _downloaded(known, cache_dir, timeout)
    folder, description = fastembed_internals.model_files(model)
    query, passage = _published_prefixes(known)
    entries = {
        "max_tokens": fastembed_internals.read_tokens(model) or 512,
        "query_prefix": query,
        "passage_prefix": passage,
    }
    digest = digests_of(folder / description.model_file, folder / "tokenizer.json")
    reading = reading_of(known, entries, [*digest, type(model.model).__name__])
    encoder = first_run(model, reading, threads, known)
    if encoder.dimension != description.dim:
        raise ModelUnavailable(
            f"{known} should give {description.dim}-d vectors, its file in {cache_dir} gives "
            f"{encoder.dimension}-d; delete it there and try again"
        )
    return encoder


def _known_name(name: str) -> str:
    """`name` as FastEmbed spells it."""
    from fastembed import TextEmbedding

    known = [str(entry["model"]) for entry in TextEmbedding.list_supported_models()]
    spelled = {entry.lower(): entry for entry in known if not entry.startswith("byheart/")}
    if name.lower() in spelled:
        return spelled[name.lower()]
    raise ModelUnavailable(
        f"{name!r} is neither a folder nor a model that FastEmbed knows; "
        f"near names: {', '.join(_near(name.lower(), spelled))}"
    )


def _near(name: str, spelled: dict[str, str]) -> list[str]:
    """Up to three known names like `name`, by the whole or by what follows the slash."""
    short = {entry.rpartition("/")[2]: entry for entry in spelled}
    close = get_close_matches(name, spelled, n=3, cutoff=0.6)
    close += [short[end] for end in get_close_matches(name.rpartition("/")[2], short, cutoff=0.5)]
    return [EMBEDDED_NAME] if not close else [spelled[entry] for entry in dict.fromkeys(close)][:3]


def _published_prefixes(name: str) -> tuple[str, str]:
    for start, prefixes in _PUBLISHED_PREFIXES.items():
        if name.lower().startswith(start):
            return prefixes
    return "", ""


def _cached(name: str, cache_dir: Path) -> TextEmbedding | None:
    try:
        return open_model(name, cache_dir, cache_dir, local_files_only=True)
    except ModelUnavailable as error:
        if fastembed_internals.is_not_cached(error.__cause__):
            return None
        raise


def _downloaded(name: str, cache_dir: Path, timeout: float) -> TextEmbedding:
    reason = _unreachable(timeout)
    if reason is not None:
        raise ModelUnavailable(
            f"{name} is not in {cache_dir} and can't be downloaded ({reason}); connect once to "
            f"fetch it, or leave the model out to use the embedded {EMBEDDED_NAME}"
        )
    return open_model(name, cache_dir, Path(name))


def _unreachable(timeout: float) -> str | None:
    """Why the model hub does not answer, or None when it does.

    Asked beforehand, since FastEmbed retries for 39 s without a network; and from a thread, since
    a name look-up knows no timeout.
    """
    answers: list[str | None] = []
    asking = threading.Thread(target=lambda: answers.append(_ask_hub(timeout)), daemon=True)
    asking.start()
    asking.join(timeout)
    return answers[0] if answers else f"no answer within {timeout:g} s"


def _ask_hub(timeout: float) -> str | None:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception as error:  # noqa: BLE001 - whatever the reason, the hub can't be used
        return f"{constants.ENDPOINT}: {one_line(error)}"
    return None
