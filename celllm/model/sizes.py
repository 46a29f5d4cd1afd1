"""Named encoder sizes: the total parameter count, gene embeddings included, at the paper's 19,379 genes."""

from typing import Any

from celllm.errors import UserError
from celllm.model.settings import SIZES, EncoderConfig


def sized(name: str, n_genes: int, **changes: Any) -> EncoderConfig:
    """Return the configuration of a named size, with ``changes`` to any of its fields.

    Raises
    ------
    UserError
        When there is no such size.
    """
    if name not in SIZES:
        raise UserError(f"encoder size {name!r}: expected one of {', '.join(SIZES)}")
    return EncoderConfig(n_genes=n_genes, **{**SIZES[name], **changes})
