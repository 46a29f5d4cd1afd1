"""Gene embeddings as a file, and what lies near what in them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from celllm import io
from celllm.errors import UserError

NAME = "gene_embeddings"


def save_gene_embeddings(path: str | Path, embeddings: Tensor, genes_sha256: str, **facts: Any) -> None:
    """Write embeddings (n_genes, dim) as safetensors, whole or not at all.

    ``genes_sha256`` tells which gene stands in which row; ``facts`` go to the metadata as JSON.
    """
    metadata = {"genes_sha256": genes_sha256} | {name: json.dumps(value) for name, value in facts.items()}
    with io.atomic(path) as partial:
        save_file({NAME: embeddings.float().contiguous()}, partial, metadata=metadata)


def load_gene_embeddings(path: str | Path, genes_sha256: str) -> Tensor:
    """Read embeddings (n_genes, dim) float32 for the vocabulary with this checksum.

    Raises
    ------
    UserError
        When the file is missing or damaged, holds no gene embeddings, or was made for another vocabulary.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as held:
            made_for, embeddings = (held.metadata() or {}).get("genes_sha256"), held.get_tensor(NAME)
    except SafetensorError as error:
        raise UserError(f"{path}: not a file of gene embeddings ({error}); make it again") from error
    if made_for != genes_sha256:
        raise UserError(f"{path}: made for another gene vocabulary; make the gene embeddings again")
    return embeddings


def standardised(embeddings: Tensor, rms: float = 1.0) -> Tensor:
    """Centre the columns over all genes, then give every row the root mean square ``rms``.

    Otherwise the direction common to all genes would drown what tells them apart, and some genes would be
    louder than others for no reason but their number of links. An ``rms`` of 1 is the scale of a fresh
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
