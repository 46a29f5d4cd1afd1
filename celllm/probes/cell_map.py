"""Cells of an annotated data set laid out by their embedding, with what a model made of them.

The embedding is that of the *pre-trained* encoder, the mean over the vectors of a cell's genes: it has seen
no label, so what lies together does so for its genes alone. Predictions are those of the fine-tuned model.
"""

from pathlib import Path

import numpy as np

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import CellsInMemory, in_memory
from celllm.io import write_csv
from celllm.model.embedder import Embedder
from celllm.probes.attention_genes import tsne
from celllm.probes.sampling import draw
from celllm.probes.settings import EmbeddingMapSettings
from celllm.scores.columns import EMBEDDING_MAP
from celllm.scores.scores import read_predictions


def run_embedding_map(
    encoder: str | Path,
    cells: str | Path,
    genes: str | Path,
    predictions: str | Path,
    out: str | Path,
    settings: EmbeddingMapSettings,
) -> None:
    """Pre-trained encoder and labelled cells -> t-SNE of their embeddings, with predictions.

    Parameters
    ----------
    encoder
        Pre-trained encoder.
    cells
        Prepared ``.h5ad`` with ``obs["label"]``.
    genes
        The vocabulary, ``genes.tsv``.
    predictions
        A file of predictions; of a cell that several splits tested the last counts, and a cell that none
        tested has an empty prediction.
    out
        CSV with :data:`EMBEDDING_MAP`.

    Raises
    ------
    UserError
        For files of another vocabulary, or no cell that expresses a gene.
    """
    vocabulary = Vocabulary.read(genes)
    with h5ad.opened(cells) as data:
        tokens = in_memory(data, vocabulary)
        rows = np.sort(draw(tokens.lengths > 0, settings.n_cells, settings.seed, 1, cells))
        names, labels = data.obs_names.astype(str)[rows], data.obs["label"].astype(str).iloc[rows]
    embedder = Embedder.read(encoder, vocabulary.sha256, settings.device)
    found = embedder.embed_cells(CellsInMemory(tokens.take(rows)), settings.token_budget)
    places = tsne(found["mean"].numpy(), settings.seed)
    frame = read_predictions(predictions)
    predicted = dict(zip(frame["cell"], frame["predicted"], strict=True))
    lines = zip(names, labels, places, strict=True)
    write_csv(
        out,
        EMBEDDING_MAP,
        ((name, label, predicted.get(name, ""), f"{x:.5g}", f"{y:.5g}") for name, label, (x, y) in lines),
    )
