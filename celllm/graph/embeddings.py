"""Gene embeddings: their file, their scale, and nearest genes."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from celllm import tensors
from celllm.errors import UserError

FORMAT = "celllm-gene-embeddings-2"


def save_gene_embeddings(path: str | Path, embeddings: Tensor, genes_sha256: str, **facts: Any) -> None:
    """Write (n_genes, dim) float32 gene embeddings, atomically.

    ``genes_sha256`` says which gene is in which row; ``facts`` are further JSON values for the header.
    """
    tables = {"gene_embeddings": embeddings.float()}
    tensors.write(path, FORMAT, tables, genes_sha256=genes_sha256, **facts)


def digest_of(embeddings: Tensor) -> str:
    """SHA-256 of the vectors, whatever else stands in their file."""
    return hashlib.sha256(embeddings.detach().float().contiguous().numpy().tobytes()).hexdigest()


def load_gene_embeddings(path: str | Path, genes_sha256: str | None = None) -> Tensor:
    """Read (n_genes, dim) gene embeddings; a file of another gene list is a :class:`UserError`."""
    header, tables = tensors.read(path, FORMAT, "file of gene embeddings; make it with 'celllm graphmae'")
    if genes_sha256 is not None and header["genes_sha256"] != genes_sha256:
        raise UserError(f"{path}: made for another gene list; make the gene embeddings again")
    return tables["gene_embeddings"]


def standardised(embeddings: Tensor, rms: float = 1.0) -> Tensor:
    """Centre the columns over all genes, then give every row the root mean square ``rms``.

    Otherwise the direction that all genes share would drown their differences, and some genes would weigh
    more than others only because they have more links. An ``rms`` of 1 is the scale of a fresh
    ``torch.nn.Embedding``.
    """
    centred = embeddings - embeddings.mean(dim=0)
    return F.normalize(centred, dim=1) * (rms * embeddings.shape[1] ** 0.5)


def nearest_genes(embeddings: Tensor, gene: int, n_nearest: int) -> list[tuple[int, float]]:
    """Return the other genes with the highest cosine to ``gene``, and that cosine, the nearest first."""
    cosine = F.cosine_similarity(embeddings, embeddings[gene][None])
    cosine[gene] = -torch.inf
    found = cosine.topk(min(n_nearest, len(cosine) - 1))
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))
