"""The shape of an encoder."""

import math
from typing import Any, Literal

from celllm.errors import UserError
from celllm.settings import Settings, setting

AttentionKind = Literal["favor", "softmax", "released"]
ENCODER_FILE = "celllm-encoder-2"
"""Kind of the file of an encoder, :mod:`celllm.tensors`."""
WEIGHTS = ("model.safetensors", "encoder.safetensors")
"""Names of that file in the folder of a model."""

ClsVector = Literal["trained", "ones"]
Activation = Literal["relu", "leaky_relu", "elu"]
PoolingActivation = Literal["relu", "none"]
# What celllm.model.anisotropy measures.
MEASURES = ("mean_cosine", "uniformity", "alignment", "effective_rank")


class EncoderSize(Settings):
    """What a row of ``sizes`` gives."""

    dim: int = setting(512, "token width (paper, Table F.1)", ge=1)
    depth: int = setting(10, "layers (paper, Table F.1)", ge=1)
    heads: int = setting(16, "attention heads (paper, Table F.1)", ge=1)
    dim_head: int = setting(64, "size of a head; heads x dim_head is the inner size (released code)", ge=1)
    dropout: float = setting(
        0.1,
        "on the embedding, in the feed-forward part and on each attention's output (paper, Table F.1)",
        ge=0,
        lt=1,
    )


class EncoderConfig(EncoderSize):
    """Shape of an encoder over a vocabulary; gene id ``n_genes`` is [CLS], ``n_genes + 1`` is [PAD]."""

    n_genes: int = setting(description="size of the vocabulary", ge=1)
    ff_mult: int = setting(4, "width of the feed-forward part, in multiples of dim", ge=1)
    n_tokens: int = setting(8, "expression tokens: the bins, [CLS], and [PAD] that is also [MASK]", ge=1)
    attention: AttentionKind = setting(
        "favor", "favor (padding-exact FAVOR+), softmax (exact), released (performer-pytorch as it is)"
    )
    cls_vector: ClsVector = setting("trained", "gene vector of [CLS]; ones: not trained (released)")
    n_features: int | None = setting(
        None, "random features of a head; null: int(dim_head * ln(dim_head)), as in performer-pytorch", ge=1
    )

    @property
    def features(self) -> int:
        """Random features per head."""
        return self.n_features or max(1, int(self.dim_head * math.log(self.dim_head)))


# Parameters at the paper's 19,379 genes, gene embeddings included, give the names.
SIZES: dict[str, dict[str, Any]] = {
    "8m": {"dim": 256, "depth": 4, "heads": 4, "dim_head": 64},
    "25m": {"dim": 384, "depth": 9, "heads": 8, "dim_head": 64},
    "50m": {"dim": 512, "depth": 10, "heads": 16, "dim_head": 64},
}


def sized(name: str, n_genes: int, **changes: Any) -> EncoderConfig:
    """The configuration of a named size, with ``changes`` to any of its fields."""
    if name not in SIZES:
        raise UserError(f"encoder size {name!r}: expected one of {', '.join(SIZES)}")
    return EncoderConfig(n_genes=n_genes, **{**SIZES[name], **changes})
