"""Encoders as safetensors files: no pickles, configuration inside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celllm import tensors
from celllm.errors import NotTrainedError, UserError
from celllm.model.encoder import Encoder, EncoderConfig
from celllm.model.settings import ENCODER_FILE
from celllm.settings import as_settings


def save_encoder(path: str | Path, encoder: Encoder, meta: dict[str, Any]) -> None:
    """Write an encoder, atomically.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file.
    encoder : Encoder
        Written with its configuration, gene embeddings and random features.
    meta : dict
        Anything JSON can hold: model row, genes_sha256, steps, run.
    """
    frozen = not encoder.embedding.genes.weight.requires_grad
    config = encoder.config.model_dump()
    tensors.write(path, ENCODER_FILE, encoder.state_dict(), config=config, genes_frozen=frozen, meta=meta)


def save_failure(path: str | Path, reason: str) -> None:
    """Write, in the place of an encoder, why it was not trained: who reads it gets that as an error."""
    tensors.write(path, ENCODER_FILE, {}, failed=reason)


def failure_of(path: str | Path, header: Mapping[str, Any]) -> NotTrainedError | None:
    """The error for a file that :func:`save_failure` wrote; None for an encoder."""
    if "failed" not in header:
        return None
    return NotTrainedError(f"its encoder was not trained: {header['failed']} ({path})")


def load_encoder(path: str | Path, genes_sha256: str | None = None) -> tuple[Encoder, dict[str, Any]]:
    """Read an encoder in evaluation mode.

    Parameters
    ----------
    path : path
        What :func:`save_encoder` wrote.
    genes_sha256 : str, optional
        Digest of the gene list in use; an encoder of another list is refused.

    Returns
    -------
    Encoder, dict
        The encoder on the CPU and its ``meta``.

    Raises
    ------
    UserError
        For a file that is missing, damaged or not an encoder, or of another gene list;
        :class:`NotTrainedError` for one whose pre-training failed.
    """
    header, weights = tensors.read(path, ENCODER_FILE, "encoder; expected what 'celllm pretrain' writes")
    if error := failure_of(path, header):
        raise error
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
