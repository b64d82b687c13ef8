"""Publishing: the ONNX files that serve a model, its report, card and pictures, and the list."""

from byheart_retrain.publishing.candidate_list import Candidate, candidate, candidates
from byheart_retrain.publishing.onnx_folder import publish_cross_encoder, publish_onnx, sha256
from byheart_retrain.publishing.parity import Parity
from byheart_retrain.publishing.report import Report
from byheart_retrain.publishing.report_files import publish_report

__all__ = [
    "Candidate",
    "Parity",
    "Report",
    "candidate",
    "candidates",
    "publish_cross_encoder",
    "publish_onnx",
    "publish_report",
    "sha256",
]
