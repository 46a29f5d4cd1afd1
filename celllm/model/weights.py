"""Encoders and gene embeddings as safetensors files: no pickles, configuration inside."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from celllm.errors import UserError
from celllm.io import atomic
from celllm.model.encoder import Encoder, EncoderConfig
from celllm.settings import fill

FORMAT = "celllm-encoder-1"


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
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    header = {
        "format": FORMAT,
        "config": dataclasses.asdict(encoder.config),
        "genes_frozen": not encoder.embedding.genes.weight.requires_grad,
        "meta": meta,
    }
    with atomic(path) as partial:
        # One key: safetensors writes several in random order, and equal runs shall make equal files.
        save_file(tensors, partial, metadata={"celllm": json.dumps(header)})


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
        For a file that is missing, damaged or not an encoder, or of another gene list.
    """
    metadata, tensors = _read(path)
    header = json.loads(metadata.get("celllm", "{}"))
    if header.get("format") != FORMAT:
        raise UserError(f"{path}: not an encoder of this package; expected what 'celllm pretrain' writes")
    meta = header["meta"]
    if genes_sha256 is not None and meta.get("genes_sha256") != genes_sha256:
        found = str(meta.get("genes_sha256"))[:12]
        raise UserError(
            f"{path}: trained with another gene list (sha256 {found}, expected {genes_sha256[:12]}); "
            "use the genes.tsv of its run"
        )
    encoder = Encoder(fill(EncoderConfig, header["config"], f"{path}: config"))
    encoder.embedding.genes.weight.requires_grad_(not header["genes_frozen"])
    encoder.load_state_dict(tensors)
    return encoder.eval(), meta


def save_gene_embeddings(path: str | Path, embeddings: Tensor, genes_sha256: str) -> None:
    """Write (n_genes, dim) float32 gene embeddings, atomically."""
    with atomic(path) as partial:
        tensors = {"gene_embeddings": embeddings.detach().float().cpu().contiguous()}
        save_file(tensors, partial, metadata={"genes_sha256": genes_sha256})


def load_gene_embeddings(path: str | Path, genes_sha256: str | None = None) -> Tensor:
    """Read (n_genes, dim) gene embeddings; a file of another gene list is a :class:`UserError`."""
    metadata, tensors = _read(path)
    if "gene_embeddings" not in tensors:
        raise UserError(f"{path}: no tensor 'gene_embeddings'; expected what 'celllm graph' writes")
    if genes_sha256 is not None and metadata.get("genes_sha256") != genes_sha256:
        raise UserError(f"{path}: made for another gene list; make the gene embeddings again")
    return tensors["gene_embeddings"]


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error
