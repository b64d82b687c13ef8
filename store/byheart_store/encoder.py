"""Encoders: text to unit vectors, by the embedded model, a folder, or a FastEmbed model."""

import hashlib
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from byheart_store.errors import ModelUnavailable
from byheart_store.passages import EMBEDDED, well_formed
from byheart_store.reranker import Reranker, RerankerFile, declared_reranker, load_reranker
from byheart_store.tuning import DEFAULT_TUNING, Tuning

if TYPE_CHECKING:
    from fastembed import TextEmbedding

EMBEDDED_NAME = "all-MiniLM-L6-v2"

_ONNX_FILES = ("model.onnx", "model_optimized.onnx", "onnx/model.onnx")
_POOLINGS = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST_TOKEN", "none": "DISABLED"}
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
_TEXTS_PER_REPORT = 64
_BACKGROUND = 10
"""How nice a thread is that works in the background; 19 would be the nicest."""
_registry = threading.Lock()

_Row = NDArray[np.float32]


class Encoder:
    """Text to unit vectors; any number of threads may call it.

    A text's vector depends on the text alone. A dynamically quantised model scales by the largest
    number in its batch, and the same text in two batches of 32 came out at cosines down to 0.98;
    so each run holds one text, which needs no padding and measured as fast or faster.
    `tuning` is what was fitted for the model, and `second` reads the best hits once more, where
    its folder brings them.
    """

    name: str
    fingerprint: str
    dimension: int
    max_tokens: int
    tuning: Tuning | None = None
    second: RerankerFile | None = None

    def __init__(self, model: "TextEmbedding", reading: "_Reading", *, threads: int) -> None:
        self.name = reading.name
        self.fingerprint = reading.fingerprint
        self.max_tokens = reading.max_tokens
        self._model = model
        self._prefixes = (reading.query_prefix, reading.passage_prefix)
        self._threads = threads
        self.dimension = next(iter(model.query_embed("probe"))).size

    @cached_property
    def reranker(self) -> Reranker | None:
        """The second model, loaded when it is first asked for.

        Raises:
            ModelUnavailable: it is missing or damaged.
        """
        return None if self.second is None else load_reranker(self.second, threads=self._threads)

    def encode_query(self, text: str) -> _Row:
        """One query -> (d,) unit row."""
        return self._unit(self._model.query_embed([self._prefixes[0] + well_formed(text)]))

    def encode_passages(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        *,
        in_background: bool = False,
    ) -> _Row:
        """n passages -> (n, d) unit rows, in the order given.

        `progress` is called on the calling thread with the number of texts just done. In the
        background it yields to whatever else the process has to do, where the system knows how to.
        """
        if len(texts) == 1 and progress is None:
            return self._passage(texts[0])[np.newaxis]  # threads would cost more than they save
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        # Threads that work on texts of one length finish together.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        begin = _yield_to_others if in_background else None
        in_order = [texts[index] for index in order]
        with (
            ThreadPoolExecutor(self._threads, "encode", initializer=begin) as pool,
            # Whoever is interrupted does not wait for the rest.
            closing(pool.map(self._passage, in_order)) as encoded,  # type: ignore[type-var]
        ):
            for first in range(0, len(order), _TEXTS_PER_REPORT):
                chunk = order[first : first + _TEXTS_PER_REPORT]
                rows[chunk] = list(islice(encoded, len(chunk)))
                if progress is not None:
                    progress(len(chunk))
        return rows

    def _passage(self, text: str) -> _Row:
        return self._unit(self._model.passage_embed([self._prefixes[1] + well_formed(text)]))

    def _unit(self, vectors: Iterable[NDArray[Any]]) -> _Row:
        vector = np.asarray(next(iter(vectors)), dtype=np.float64)
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm < 1e-9:
            # A text without a direction is as far from one memory as from another.
            return np.full(self.dimension, self.dimension**-0.5, dtype=np.float32)
        return (vector / norm).astype(np.float32)


def _yield_to_others() -> None:
    """Let the calling thread run when no other wants to; only Linux knows of one thread's rank."""
    if sys.platform.startswith("linux"):
        rank = max(os.getpriority(os.PRIO_PROCESS, 0), _BACKGROUND)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), rank)


def load_encoder(
    model: str | None,
    *,
    cache_dir: Path,
    threads: int | None = None,
    download_timeout: float = 5.0,
) -> Encoder:
    """The encoder for `model`: a folder, a FastEmbed id, or nothing for the embedded one.

    `cache_dir` holds downloaded models; `threads` encode passages at once (all cores when absent);
    `download_timeout` seconds is how long the model hub may take to answer at all.

    Raises ModelUnavailable: unknown, not downloadable, damaged, or not what its folder declares.
    """
    threads = threads or cores()
    if model is None or model == EMBEDDED_NAME:
        return _from_folder(EMBEDDED, EMBEDDED_NAME, cache_dir, threads)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _from_folder(folder.resolve(), str(folder.resolve()), cache_dir, threads)
    if folder.is_absolute():
        raise ModelUnavailable(
            f"the model folder {folder} is not there; put it back, or name where it is now: "
            "byheart reindex --model DIR"
        )
    return _from_catalogue(model, cache_dir, threads, download_timeout)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class _Reading:
    """How a model reads a text."""

    name: str
    fingerprint: str
    max_tokens: int
    query_prefix: str
    passage_prefix: str


# ---------------------------------------------------------------------------------- folders


def _from_folder(folder: Path, name: str, cache_dir: Path, threads: int) -> Encoder:
    onnx = next((folder / file for file in _ONNX_FILES if (folder / file).is_file()), None)
    if onnx is None:
        raise ModelUnavailable(
            f"{folder} holds none of {', '.join(_ONNX_FILES)}; export the model to ONNX there, "
            "or name another model"
        )
    declared = _declaration(folder)
    tuning = _tuning(declared, folder)
    digest = _digest(onnx, folder / "tokenizer.json")
    if declared.get("sha256", digest[0]) != digest[0]:
        raise ModelUnavailable(
            f"{onnx} is damaged: its SHA-256 is not the one in byheart.json; "
            "install or build the model again"
        )
    pooling = _pooling(declared, folder)
    reading = _reading(name, declared, [*digest, pooling])
    served = _serve(folder, onnx, pooling, declared, reading, cache_dir)
    _truncate(served, reading.max_tokens)
    encoder = _first_run(served, reading, threads, onnx)
    if encoder.dimension != declared.get("dimension", encoder.dimension):
        raise ModelUnavailable(
            f"{folder} declares {declared['dimension']}-d vectors, {onnx.name} gives "
            f"{encoder.dimension}-d; export the model again"
        )
    encoder.tuning, encoder.second = tuning, declared_reranker(folder, declared)
    if tuning is not None and tuning.reranking.weight:
        _ = encoder.reranker  # loaded with the first model, so that no recall waits for it
    return encoder


def _declaration(folder: Path) -> dict[str, Any]:
    """What a folder says of itself: sentence-transformers' files, overruled by byheart.json."""
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    limit = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = limit or _json(folder / "tokenizer_config.json").get("model_max_length")
    declared = {
        "max_tokens": limit,
        "query_prefix": prompts.get("query", ""),
        "passage_prefix": prompts.get("document", prompts.get("passage", "")),
        **_modules(folder),
        **_json(folder / "byheart.json"),
    }
    return {key: value for key, value in declared.items() if value is not None}


def _modules(folder: Path) -> dict[str, Any]:
    """Pooling and dimension according to sentence-transformers' modules.json."""
    declared: dict[str, Any] = {}
    for module in _json(folder / "modules.json") or []:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            config = _json(folder / module["path"] / "config.json")
            declared["pooling"] = _pooling_mode(config)
            declared["dimension"] = config.get(
                "embedding_dimension", config.get("word_embedding_dimension")
            )
        elif kind not in ("Transformer", "Normalize"):
            declared["pooling"] = f"{kind} after pooling"
    return declared


def _pooling_mode(config: dict[str, Any]) -> str:
    """`pooling_mode` of today's folders, or the one flag that is set in older ones."""
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    flags = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
    named = [flag.removeprefix("pooling_mode_").split("_token")[0] for flag in flags]
    return "+".join(named)


def _pooling(declared: dict[str, Any], folder: Path) -> str:
    pooling = str(declared.get("pooling", "mean"))
    if pooling not in _POOLINGS:
        raise ModelUnavailable(
            f"{folder} pools by {pooling!r}, served are {', '.join(_POOLINGS)}; "
            'export the sentence vector itself and declare {"pooling": "none"} in byheart.json'
        )
    return pooling


def _tuning(declared: dict[str, Any], folder: Path) -> Tuning | None:
    """What was fitted for the model, which its vectors and so its fingerprint don't depend on."""
    if "tuning" not in declared:
        return None
    try:
        tuning = Tuning.from_dict(declared["tuning"])
    except (AttributeError, TypeError):
        tuning = None
    if tuning is None or _layout(tuning.as_dict()) != _layout(DEFAULT_TUNING.as_dict()):
        raise ModelUnavailable(
            f'{folder / "byheart.json"} declares a "tuning" that can\'t be read; restore the file, '
            "or delete that entry to rank with the defaults"
        )
    return tuning


def _layout(value: Any) -> Any:
    """What a JSON value is made of: the same for any two finite numbers."""
    if isinstance(value, dict):
        return {name: _layout(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_layout(part) for part in value]
    return isinstance(value, int | float) and math.isfinite(value)


def _reading(name: str, declared: dict[str, Any], parts: Sequence[str]) -> _Reading:
    max_tokens = int(min(declared.get("max_tokens", 512), 1 << 20))
    prefixes = (str(declared.get("query_prefix", "")), str(declared.get("passage_prefix", "")))
    text = json.dumps([*parts, max_tokens, *prefixes])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return _Reading(name, fingerprint, max_tokens, *prefixes)


def _serve(
    folder: Path,
    onnx: Path,
    pooling: str,
    declared: dict[str, Any],
    reading: _Reading,
    cache_dir: Path,
) -> "TextEmbedding":
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    file = onnx.relative_to(folder).as_posix()
    registered = f"byheart/{reading.fingerprint}/{file}"
    with _registry:
        if all(known["model"] != registered for known in TextEmbedding.list_supported_models()):
            TextEmbedding.add_custom_model(
                model=registered,
                pooling=PoolingType[_POOLINGS[pooling]],
                normalization=True,
                sources=ModelSource(hf=registered),
                dim=int(declared.get("dimension", 0)),
                model_file=file,
            )
    return _open(registered, cache_dir, onnx, specific_model_path=str(folder))


def _open(name: str, cache_dir: Path, place: Path, **options: Any) -> "TextEmbedding":
    from fastembed import TextEmbedding

    try:
        # Texts run side by side, one thread each: a second thread inside a run made queries no
        # faster (1.7 ms to 1.9) and imports slower (157 texts a second to 108 on two cores).
        return TextEmbedding(name, cache_dir=str(cache_dir), threads=1, **options)
    except Exception as error:
        raise ModelUnavailable(
            f"{place} can't be loaded ({_one_line(error)}); export, build or download it again"
        ) from error


def _first_run(
    model: "TextEmbedding", reading: _Reading, threads: int, place: Path | str
) -> Encoder:
    try:
        return Encoder(model, reading, threads=threads)
    except Exception as error:
        raise ModelUnavailable(
            f"{place} can't encode a text ({_one_line(error)}); check its inputs and its pooling"
        ) from error


def _truncate(model: "TextEmbedding", max_tokens: int) -> None:
    """Read as far as the folder declares: FastEmbed takes the least of several stale figures."""
    tokenizer: Any = getattr(model.model, "tokenizer", None)
    if tokenizer is not None:
        direction = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.enable_truncation(max_tokens, direction=direction)


def _digest(onnx: Path, *others: Path) -> list[str]:
    """SHA-256 of the ONNX file, of its external data, of the other files."""
    data = sorted(path for path in onnx.parent.glob(f"{onnx.name}*data") if path.is_file())
    files = [onnx, *data, *(path for path in others if path.is_file())]
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


def _json(path: Path) -> Any:
    """The content of a JSON file; nothing when there is none."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnavailable(
            f"{path} is no JSON ({_one_line(error)}); restore the file"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# -------------------------------------------------------------------------------- catalogue


def _from_catalogue(name: str, cache_dir: Path, threads: int, timeout: float) -> Encoder:
    known = _known_name(name)
    with _quiet():
        model = _cached(known, cache_dir) or _downloaded(known, cache_dir, timeout)
    served: Any = model.model
    folder, description = Path(served._model_dir), served.model_description
    truncation = getattr(getattr(served, "tokenizer", None), "truncation", None) or {}
    query, passage = _published_prefixes(known)
    declared = {
        "max_tokens": truncation.get("max_length", 512),
        "query_prefix": query,
        "passage_prefix": passage,
    }
    digest = _digest(folder / description.model_file, folder / "tokenizer.json")
    reading = _reading(known, declared, [*digest, type(served).__name__])
    encoder = _first_run(model, reading, threads, known)
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


def _cached(name: str, cache_dir: Path) -> "TextEmbedding | None":
    try:
        return _open(name, cache_dir, cache_dir, local_files_only=True)
    except ModelUnavailable as error:
        # FastEmbed's own word for "not in the cache"; anything else is a damaged file.
        if isinstance(error.__cause__, ValueError) and "from any source" in str(error.__cause__):
            return None
        raise


def _downloaded(name: str, cache_dir: Path, timeout: float) -> "TextEmbedding":
    reason = _unreachable(timeout)
    if reason is not None:
        raise ModelUnavailable(
            f"{name} is not in {cache_dir} and can't be downloaded ({reason}); connect once to "
            f"fetch it, or leave the model out to use the embedded {EMBEDDED_NAME}"
        )
    return _open(name, cache_dir, Path(name))


def _unreachable(timeout: float) -> str | None:
    """Why the model hub does not answer, or None when it does.

    Asked beforehand, since FastEmbed retries for 39 s without a network; and from a thread, since
    a name look-up knows no timeout.
    """
    answers: list[str | None] = []
    knock = threading.Thread(target=lambda: answers.append(_knock(timeout)), daemon=True)
    knock.start()
    knock.join(timeout)
    return answers[0] if answers else f"no answer within {timeout:g} s"


def _knock(timeout: float) -> str | None:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception as error:  # noqa: BLE001 - whatever the reason, the hub can't be used
        return f"{constants.ENDPOINT}: {_one_line(error)}"
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep FastEmbed's log of every attempt off the terminal: the error raised says it all."""
    from loguru import logger

    logger.disable("fastembed")
    try:
        yield
    finally:
        logger.enable("fastembed")
