"""Encoders as safetensors files: no pickles, configuration inside."""

from pathlib import Path
from typing import Any

from celllm import tensors
from celllm.errors import NotTrainedError, UserError
from celllm.model.encoder import Encoder, EncoderConfig
from celllm.model.settings import ENCODER_FILE
from celllm.settings import as_settings


def save_encoder(path: str | Path, encoder: Encoder, meta: dict[str, Any]) -> None:
    """Write an encoder with its configuration, gene embeddings and random features, atomically.

    ``meta`` is anything JSON can hold: model row, genes_sha256, steps, run.
    """
    frozen = not encoder.embedding.genes.weight.requires_grad
    config = encoder.config.model_dump()
    tensors.write(path, ENCODER_FILE, encoder.state_dict(), config=config, genes_frozen=frozen, meta=meta)


def save_failure(path: str | Path, reason: str) -> None:
    """Write, in the place of an encoder, why it was not trained: who reads it gets that as an error."""
    tensors.write(path, ENCODER_FILE, {}, failed=reason)


def load_encoder(path: str | Path, genes_sha256: str | None = None) -> tuple[Encoder, dict[str, Any]]:
    """Read an encoder in evaluation mode, on the CPU, and its ``meta``.

    With ``genes_sha256``, the digest of the gene list in use, an encoder of another list is refused.

    Raises :class:`UserError` for a file that is missing, damaged or not an encoder, or of another gene list;
    :class:`NotTrainedError` for one whose pre-training failed.
    """
    header, weights = tensors.read(path, ENCODER_FILE, "encoder; expected what 'celllm pretrain' writes")
    if "failed" in header:
        raise NotTrainedError(f"its encoder was not trained: {header['failed']} ({path})")
    meta = header["meta"]
    if genes_sha256 is not None and meta.get("genes_sha256") != genes_sha256:
        found = str(meta.get("genes_sha256"))[:12]
        raise UserError(
            f"{path}: trained with another gene list (sha256 {found}, expected {genes_sha256[:12]}); "
            "use the genes.tsv of its run"
        )
    encoder = Encoder(as_settings(EncoderConfig, header["config"], f"{path}: config"))
    encoder.embedding.genes.weight.requires_grad_(not header["genes_frozen"])
    encoder.load_state_dict(weights)
    return encoder.eval(), meta
