"""The encoder, its attention and its heads; each name is imported from its module when it is asked for."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celllm.model.encoder import Encoder, count_parameters, forward_flops
    from celllm.model.heads import (
        ClassificationHead,
        ContrastPooling,
        GenePooling,
        MaskedExpressionHead,
        TumourHead,
        cell_embedding,
        feed_forward,
    )
    from celllm.model.settings import SIZES, EncoderConfig
    from celllm.model.sizes import sized
    from celllm.model.weights import load_encoder, save_encoder

# Read by PyTorch at its first allocation: huge pages on Linux make a training step on a CPU 2 to 5 % faster.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = [
    "SIZES",
    "ClassificationHead",
    "ContrastPooling",
    "Encoder",
    "EncoderConfig",
    "GenePooling",
    "MaskedExpressionHead",
    "TumourHead",
    "cell_embedding",
    "count_parameters",
    "feed_forward",
    "forward_flops",
    "load_encoder",
    "save_encoder",
    "sized",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("settings", "encoder", "heads", "sizes", "weights"):
            found = vars(importlib.import_module(f"{__name__}.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
