"""Cells of an annotated data set laid out by their embedding, with what a model made of them.

The embedding is that of the *pre-trained* encoder, the mean over the vectors of a cell's genes: it has seen
no label, so what lies together does so for its genes alone. Predictions are those of the fine-tuned model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import CellsInMemory, in_memory
from celllm.errors import UserError
from celllm.io import write_csv
from celllm.model import load_encoder
from celllm.model.geometry import embed
from celllm.probes.attention_genes import tsne
from celllm.scores.columns import EMBEDDING_MAP
from celllm.scores.scores import read_predictions
from celllm.settings import fill
from celllm.training.distributed import joined
from celllm.training.model_row import read_tokeniser


@dataclass(frozen=True)
class EmbeddingMapSettings:
    """``n_cells`` random cells at most; ``token_budget`` tokens of a pass, padding counted."""

    n_cells: int = 5000
    seed: int = 0
    token_budget: int = 8192
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n_cells < 1:
            raise UserError(f"embedding_map.n_cells: expected at least 1, got {self.n_cells}")


def run_embedding_map(
    encoder: str | Path,
    cells: str | Path,
    genes: str | Path,
    predictions: str | Path,
    out: str | Path,
    settings: Mapping[str, Any] | str | None = None,
) -> None:
    """Write places in a t-SNE of cell embeddings, with label and prediction.

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
    settings
        :class:`EmbeddingMapSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For files of another vocabulary, or no cell that expresses a gene.
    """
    chosen = fill(EmbeddingMapSettings, settings, "embedding-map: settings")
    vocabulary = Vocabulary.read(genes)
    names, labels, sample = _sample(cells, vocabulary, chosen)
    with joined(chosen.device) as processes:
        model, meta = load_encoder(encoder, vocabulary.sha256)
        found = embed(model.to(processes.device), read_tokeniser(meta), sample, chosen.token_budget)
    places = tsne(found["mean"].numpy(), chosen.seed)
    frame = read_predictions(predictions)
    predicted = dict(zip(frame["cell"], frame["predicted"], strict=True))
    cells_and_places = zip(names, labels, places, strict=True)
    rows = [(n, label, predicted.get(n, ""), f"{x:.5g}", f"{y:.5g}") for n, label, (x, y) in cells_and_places]
    write_csv(out, EMBEDDING_MAP, rows)


def _sample(
    path: str | Path, vocabulary: Vocabulary, settings: EmbeddingMapSettings
) -> tuple[list[str], list[str], CellsInMemory]:
    """Names, labels and tokens of random cells that express a gene, in the order of the file."""
    with h5ad.opened(path) as data:
        cells = in_memory(data, vocabulary)
        names, labels = data.obs_names.astype(str), data.obs["label"].astype(str)
        rows: NDArray[Any] = np.flatnonzero(cells.lengths)
        if len(rows) == 0:
            raise UserError(f"{path}: no cell expresses a gene of the vocabulary")
        n = min(settings.n_cells, len(rows))
        rows = np.sort(np.random.default_rng(settings.seed).choice(rows, n, replace=False))
        return list(names[rows]), list(labels.iloc[rows]), CellsInMemory(cells.take(rows))
