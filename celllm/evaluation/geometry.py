"""How cell embeddings lie in their space: the paper argues that contrast spreads them, and never measures it.

All measures are of cells that no encoder was trained on. Without contrast, embeddings of a transformer crowd
into a narrow cone (anisotropy): a mean cosine near 1, a uniformity near 0, a small effective rank.
"""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from celllm.data import prepared
from celllm.data.batches import length_buckets
from celllm.data.genes import Vocabulary
from celllm.data.tokens import Cells, CellsInMemory, Tokeniser, blocks, concatenate, tokens_of
from celllm.errors import UserError
from celllm.io import atomic
from celllm.model import Encoder, cell_embedding, load_encoder
from celllm.settings import fill
from celllm.training.distributed import joined
from celllm.training.model_row import read_tokeniser

log = logging.getLogger(__name__)

Embedding = Literal["mean", "cls"]
MEASURES = ("mean_cosine", "uniformity", "alignment", "effective_rank")
COLUMNS = ("model", "data_set", "embedding", "dim", "n_cells", *MEASURES)


@dataclass(frozen=True)
class GeometrySettings:
    """``n_cells`` random cells of each data set; ``token_budget`` tokens of a pass, padding counted."""

    n_cells: int = 512
    seed: int = 0
    token_budget: int = 8192
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n_cells < 2:
            raise UserError(f"settings.n_cells: expected at least 2, got {self.n_cells}")


def run_geometry(
    encoders: Mapping[str, str | Path],
    cells: Mapping[str, str | Path],
    genes: str | Path,
    out: str | Path,
    settings: Mapping[str, Any] | str | None = None,
) -> None:
    """Write the measures of several encoders on the same cells as one table.

    Parameters
    ----------
    encoders
        Pre-trained encoders by the name of their row.
    cells
        Prepared ``.h5ad`` by data set: cells that none of the encoders was trained on.
    genes
        The vocabulary, ``genes.tsv``.
    out
        CSV with :data:`COLUMNS`, a row per encoder, data set and kind of embedding (the mean over a cell's
        genes; the vector of [CLS]).
    settings
        :class:`GeometrySettings` as mapping or JSON.

    Raises
    ------
    UserError
        For files of another vocabulary, or a data set with fewer than two cells that express a gene.
    """
    chosen = fill(GeometrySettings, settings, "geometry: settings")
    vocabulary = Vocabulary.read(genes)
    samples = {name: _sample(path, vocabulary, chosen) for name, path in cells.items()}
    rows = []
    with joined(chosen.device) as processes:
        for model, path in encoders.items():
            encoder, meta = load_encoder(path, vocabulary.sha256)
            encoder.to(processes.device)
            for data_set, sample in samples.items():
                of_both = measure(encoder, read_tokeniser(meta), sample, chosen.seed, chosen.token_budget)
                for embedding, measures in of_both.items():
                    numbers = [f"{value:.6g}" for value in measures.values()]
                    rows.append([model, data_set, embedding, encoder.config.dim, sample.n_cells, *numbers])
                    told = "  ".join(f"{name} {value:.3f}" for name, value in measures.items())
                    log.info("%s, %s, %s: %s", model, data_set, embedding, told)
    with atomic(out) as partial, open(partial, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])


def _sample(path: str | Path, vocabulary: Vocabulary, settings: GeometrySettings) -> CellsInMemory:
    """Random cells of a prepared data set, among those that express a gene."""
    with prepared.opened(path) as data:
        cells = CellsInMemory(concatenate([tokens_of(x).ragged for x in blocks(data, vocabulary)]))
    rows = np.flatnonzero(cells.lengths)
    if len(rows) < 2:
        raise UserError(f"{path}: {len(rows)} cell(s) with an expressed gene; geometry needs two")
    n = min(settings.n_cells, len(rows))
    return CellsInMemory(cells.take(np.random.default_rng(settings.seed).choice(rows, n, replace=False)))


def measure(
    encoder: Encoder, tokeniser: Tokeniser, cells: Cells, seed: int, token_budget: int
) -> dict[Embedding, dict[str, float]]:
    """All measures of both kinds of embedding.

    Mean cosine, uniformity and effective rank are of embeddings without dropout; alignment is of two passes
    with dropout, which are the positives of the contrastive loss.
    """
    plain = embed(encoder.eval(), tokeniser, cells, token_budget)
    torch.manual_seed(seed)
    one, other = (embed(encoder.train(), tokeniser, cells, token_budget) for _ in range(2))
    encoder.eval()
    return {
        how: {
            "mean_cosine": mean_cosine(plain[how]),
            "uniformity": uniformity(plain[how]),
            "alignment": alignment(one[how], other[how]),
            "effective_rank": effective_rank(plain[how]),
        }
        for how in plain
    }


@torch.no_grad()
def embed(encoder: Encoder, tokeniser: Tokeniser, cells: Cells, token_budget: int) -> dict[Embedding, Tensor]:
    """Both kinds of embedding of all cells, (n_cells, dim) float64 in the order of the cells."""
    device = encoder.norm.weight.device
    kinds: tuple[Embedding, ...] = get_args(Embedding)
    found = {how: torch.empty(cells.n_cells, encoder.config.dim, dtype=torch.float64) for how in kinds}
    for rows in length_buckets(tokeniser.lengths(cells), token_budget):
        batch = tokeniser(cells.take(rows)).to(device)
        states = encoder(*batch)
        for how, table in found.items():
            table[torch.from_numpy(rows)] = cell_embedding(states, batch.mask, how).double().cpu()
    return found


def mean_cosine(x: Tensor) -> float:
    """Mean cosine of two different rows of ``x`` (n, dim): 0 for random directions, 1 for a single one."""
    n, total = len(x), functional.normalize(x).sum(0)
    return float((total @ total - functional.normalize(x).square().sum()) / (n * (n - 1)))


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """Logarithm of the mean Gaussian potential of pairs of rows on the unit sphere; lower is more uniform.

    0 when all directions are one, about -2t for random directions in many dimensions.
    Source: Wang & Isola 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere", with their t = 2.
    """
    return float(torch.pdist(functional.normalize(x)).square().mul(-t).exp().mean().log())


def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance of row i of ``x`` and row i of ``y`` on the unit sphere, 0 to 4.

    Source: Wang & Isola 2020, with their exponent of 2.
    """
    return float((functional.normalize(x) - functional.normalize(y)).square().sum(1).mean())


def effective_rank(x: Tensor) -> float:
    """Exponential of the entropy of the singular values of ``x``, as shares of their sum; 1 to min(n, dim).

    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    shares = functional.normalize(torch.linalg.svdvals(x), p=1, dim=0)
    return float(torch.special.entr(shares).sum().exp())
