"""The encoder for a name: the embedded model, a folder, or a model of FastEmbed's catalogue."""

from __future__ import annotations

from pathlib import Path

from byheart_store.errors import ModelUnavailable
from byheart_store.models.catalogue import load_from_catalogue
from byheart_store.models.encoder import Encoder, cores
from byheart_store.models.model_folder import load_folder
from byheart_store.models.passages import EMBEDDED, EMBEDDED_NAME


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

    Raises:
        ModelUnavailable: unknown, not downloadable, damaged, or not what its folder declares.
    """
    threads = threads or cores()
    if model is None or model == EMBEDDED_NAME:
        return load_folder(EMBEDDED, EMBEDDED_NAME, cache_dir, threads)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return load_folder(folder.resolve(), str(folder.resolve()), cache_dir, threads)
    if folder.is_absolute():
        raise ModelUnavailable(
            f"the model folder {folder} is not there; put it back, or name where it is now: "
            "byheart reindex --model DIR"
        )
    return load_from_catalogue(model, cache_dir, threads, download_timeout)
