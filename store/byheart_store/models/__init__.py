"""Models: encoders and rerankers, the folders that hold them, and what they read of a memory."""

from byheart_store.models.encoder import Encoder, cores
from byheart_store.models.loading import load_encoder
from byheart_store.models.model_folder import declare, declared
from byheart_store.models.passages import EMBEDDED, EMBEDDED_NAME, passage_text, passage_texts
from byheart_store.models.reranker import Reranker, RerankerFile, load_reranker

__all__ = [
    "EMBEDDED",
    "EMBEDDED_NAME",
    "Encoder",
    "Reranker",
    "RerankerFile",
    "cores",
    "declare",
    "declared",
    "load_encoder",
    "load_reranker",
    "passage_text",
    "passage_texts",
]
