"""The encoder, its attention and its heads."""

from celllm.model.encoder import Encoder, EncoderConfig, count_parameters, forward_flops
from celllm.model.heads import (
    ClassificationHead,
    ContrastPooling,
    GenePooling,
    MaskedExpressionHead,
    TumourHead,
    cell_embedding,
    feed_forward,
)
from celllm.model.sizes import SIZES, sized
from celllm.model.weights import load_encoder, save_encoder

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
