"""Gene2vec (Du et al. 2019, BMC Genomics 20:82): a user's file of vectors, in the order of the vocabulary.

scBERT adds these vectors, frozen, to its tokens. They are not downloaded: a user who has them names the file.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celllm import io
from celllm.cells.genes import SymbolMap, Vocabulary
from celllm.errors import UserError
from celllm.graph.embeddings import digest_of, save_gene_embeddings
from celllm.sources.archives import open_text

log = logging.getLogger(__name__)

_EXPECTED = "expected is Gene2vec's text, a line for each gene: its symbol, then its numbers"


def run_gene2vec(
    table: str | Path, genes: str | Path, aliases: str | Path, dim: int, out: str | Path, digest: str | Path
) -> None:
    """A file of Gene2vec -> one vector per gene of the vocabulary, zeros where it has none.

    Parameters
    ----------
    table
        Text, plain or gzip-compressed: a line for each gene with its symbol and its numbers, separated by
        tabs or spaces; a first line with two numbers, as word2vec writes it, is passed over.
    genes, aliases
        The vocabulary and the other names of its genes.
    dim
        Numbers of a vector: the width of the encoders that take it.
    out
        Tensor ``gene_embeddings`` (n_genes, dim) float32, ``.safetensors``.
    digest
        A text file with the SHA-256 of the vectors alone.

    Raises
    ------
    UserError
        For a file without names of genes, a line of another length, what is no number, and when no gene is in
        the vocabulary.
    """
    vocabulary = Vocabulary.read(genes)
    names, vectors = read_vectors(table, dim)
    embeddings, n_found = in_order(names, vectors, SymbolMap.read(aliases, vocabulary))
    if n_found == 0:
        raise UserError(f"{table}: none of its {len(names)} names is a gene of the vocabulary; {_EXPECTED}")
    log.info("%s: %d of %d names are genes; %d genes of the vocabulary have no vector", table, n_found,
             len(names), len(vocabulary) - n_found)  # fmt: skip
    save_gene_embeddings(out, embeddings, vocabulary.sha256, table=Path(table).name, n_found=n_found)
    io.write_text(digest, f"{digest_of(embeddings)}\n")


def read_vectors(path: str | Path, dim: int) -> tuple[list[str], NDArray[np.float32]]:
    """Read names and their vectors, (n, dim); see :func:`run_gene2vec` for errors."""
    names, vectors = [], []
    with open_text(path, errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            name, *numbers = line.split() or [""]
            if not name or (number == 1 and len(numbers) == 1):
                continue
            where = f"{path}, line {number}"
            if len(numbers) != dim:
                raise UserError(f"{where}: {name} has {len(numbers)} numbers, expected {dim}; {_EXPECTED}")
            try:
                vectors.append(np.array(numbers, dtype=np.float32))
            except ValueError as error:
                raise UserError(f"{where}: {error}; {_EXPECTED}") from None
            if not np.isfinite(vectors[-1]).all():
                raise UserError(f"{where}: {name} has a value that is not a finite number")
            names.append(name)
    if not names:
        raise UserError(f"{path}: holds no vector; {_EXPECTED}")
    return names, np.stack(vectors)


def in_order(names: list[str], vectors: NDArray[np.float32], symbols: SymbolMap) -> tuple[Tensor, int]:
    """Vectors by gene (n_genes, dim) and how many genes have one; of two names the approved symbol counts."""
    ids, approved = symbols.genes(names), symbols.vocabulary.symbols
    exact = np.array([gene >= 0 and approved[gene] == name for name, gene in zip(names, ids, strict=True)])
    table = np.zeros((len(approved), vectors.shape[1]), dtype=np.float32)
    for rows in (np.flatnonzero(~exact & (ids >= 0))[::-1], np.flatnonzero(exact)[::-1]):
        table[ids[rows]] = vectors[rows]
    return torch.from_numpy(table), len(np.unique(ids[ids >= 0]))
