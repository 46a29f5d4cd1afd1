"""Gene embeddings as a file, and what lies near what in them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from celllm import io


def save_gene_embeddings(path: str | Path, embeddings: Tensor, genes_sha256: str, **facts: Any) -> None:
    """Write embeddings (n_genes, dim) as safetensors, whole or not at all.

    ``genes_sha256`` tells which gene stands in which row; ``facts`` go to the metadata as JSON. The encoder's
    side reads the file with :func:`celllm.model.load_gene_embeddings`.
    """
    metadata = {"genes_sha256": genes_sha256} | {name: json.dumps(value) for name, value in facts.items()}
    with io.atomic(path) as partial:
        save_file({"gene_embeddings": embeddings.float().contiguous()}, partial, metadata=metadata)


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
