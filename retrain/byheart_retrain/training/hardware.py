"""What a training runs on, and in which precision."""

from __future__ import annotations

from byheart_retrain.trainer_internals import processor_multiplies_bf16


def device() -> str:
    """The kind of device that trains."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def precision() -> str:
    """bf16 where the hardware multiplies it, fp16 on other GPUs, else fp32."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if processor_multiplies_bf16() else "fp32"
