"""A row of config/models.yaml and the corpus: its cells, its tokeniser and its untrained encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.shards import Corpus
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.graph.embeddings import load_gene_embeddings
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.settings import as_settings
from celllm.training.settings import ModelRow


def training_cells(row: ModelRow, corpus: Corpus) -> NDArray[np.int64]:
    """The cells of the corpus that the model is trained on."""
    sources = row.sources or {entry.source for entry in corpus.entries}
    chosen = np.repeat([e.source in sources for e in corpus.entries], [e.n_cells for e in corpus.entries])
    if row.cells == "normal":
        chosen &= corpus.tumour == 0
    if not chosen.any():
        kind = "normal cell" if row.cells == "normal" else "cell"
        of = f" of {' or '.join(row.sources)}" if row.sources else ""
        raise UserError(f"model {row.name}: the corpus has no {kind}{of}; add a source of such cells")
    return np.flatnonzero(chosen)


def row_tokeniser(
    row: ModelRow, n_genes: int, corpus: Corpus, gene_embeddings: torch.Tensor | None = None
) -> Tokeniser:
    """The row's tokeniser.

    A full gene vector has the genes that have ``gene_embeddings``; a smaller subset is chosen by the cells
    that the model is trained on.
    """
    tokens, genes = row.tokens, np.arange(n_genes)
    if tokens.zeros and gene_embeddings is not None:
        genes = np.flatnonzero(gene_embeddings.any(dim=1).numpy())
    if tokens.n_genes is not None and tokens.n_genes < len(genes):
        genes = commonest_genes(corpus, training_cells(row, corpus), genes, tokens.n_genes)
    chosen = genes if len(genes) < n_genes else None
    return Tokeniser(**(tokens.model_dump() | {"n_genes": n_genes, "genes": chosen}))


def untrained(row: ModelRow, n_genes: int, gene_embeddings: torch.Tensor | None = None) -> Embedder:
    """An encoder as pre-training would start it, always the same one, on the CPU.

    Without ``gene_embeddings`` (n_genes, dim) the gene table holds random numbers.
    """
    if row.tokens.n_genes is not None:
        raise UserError("model.tokens.n_genes: the genes are chosen by the pre-training cells; drop it")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        encoder = Encoder(row.encoder_config(n_genes), gene_embeddings)
    return Embedder(encoder, Tokeniser(**(row.tokens.model_dump() | {"n_genes": n_genes})))


def commonest_genes(
    corpus: Corpus, rows: NDArray[np.int64], genes: NDArray[np.int64], n_kept: int, block: int = 8192
) -> NDArray[np.int64]:
    """Those of ``genes`` (vocabulary indices) expressed in most of the cells, ascending; of equals the first.

    Reads the cells once, ``block`` at a time.
    """
    counts = np.zeros(int(genes.max()) + 1, dtype=np.int64)
    for start in range(0, len(rows), block):
        found = np.bincount(corpus.take(rows[start : start + block]).gene_ids, minlength=len(counts))
        counts += found[: len(counts)]
    return np.sort(genes[np.argsort(-counts[genes], kind="stable")[:n_kept]])


def read_embedder(
    file: str | Path | None, row: Mapping[str, Any], vocabulary: Vocabulary, device: str = "auto"
) -> Embedder:
    """Read a pre-trained encoder, or make the untrained one of a row that says ``pretrained: false``.

    The ``gene_embeddings`` of an untrained row are the file of its gene table; empty or ``trained``: random.

    Raises :class:`UserError` for a file that is missing, damaged or of another gene list.
    """
    if file is not None:
        return Embedder.read(file, vocabulary.sha256, device)
    if row.get("pretrained", True):
        raise UserError(
            f"model {row.get('name')}: no encoder; name its file as `encoder`, or say pretrained: false"
        )
    model = as_settings(ModelRow, {key: value for key, value in row.items() if key != "pretrained"}, "model")
    genes = model.gene_embeddings
    table = load_gene_embeddings(genes, vocabulary.sha256) if genes not in ("", "trained") else None
    return untrained(model, len(vocabulary), table).to(device)
