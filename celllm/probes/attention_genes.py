"""Which genes [CLS] attends to, and how well they tell tumour cells from normal ones (paper, appendix C).

The paper says little of how. Here the attention of a gene in a cell is the weight that [CLS] gives it in the
last layer, averaged over the heads; that of a gene is the mean over the cells that express it, counted for
genes that enough cells express. The clustering is k-means with two clusters on the log-normalised expression
of 20 genes, the same genes for all cells ("select 20 key genes from each of" the cells could also mean other
genes for each cell, but then cells could not be compared).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import FRACTION_BITS, Cells, CellsInMemory, Ragged
from celllm.corpus.shards import Corpus
from celllm.errors import UserError
from celllm.io import write_csv, write_json
from celllm.model.embedder import Embedder
from celllm.probes.sampling import draw
from celllm.probes.settings import InterpretationSettings
from celllm.scores.columns import CELLS, GENES, KINDS, SETS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GeneTotals:
    """Sums over cells, a row for each of :data:`KINDS` and a column for each gene: (2, n_genes)."""

    n_cells: NDArray[np.int64]  # of each kind, (2,)
    attention: NDArray[np.float64]  # weights
    expressing: NDArray[np.float64]  # cells that show the encoder the gene
    expression: NDArray[np.float64]  # log-normalised

    def mean_attention(self, average: str) -> NDArray[np.float64]:
        """Of normal, tumour and all cells, (3, n_genes); NaN where no cell counts."""
        return _means(self.attention, self.expressing if average == "expressing" else self.n_cells[:, None])

    def mean_expression(self) -> NDArray[np.float64]:
        """Of normal, tumour and all cells, (3, n_genes)."""
        return _means(self.expression, self.n_cells[:, None])


def _means(sums: NDArray[np.float64], counts: NDArray[Any]) -> NDArray[np.float64]:
    sums, counts = (np.vstack([each, each.sum(0)]) for each in (sums, np.broadcast_to(counts, sums.shape)))
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def run_interpret(
    encoder: str | Path,
    corpus: str | Path,
    genes: str | Path,
    table: str | Path,
    cells: str | Path,
    out: str | Path,
    settings: InterpretationSettings,
) -> None:
    """Encoder and pre-training cells -> genes by attention, and how well they separate tumour from normal.

    Parameters
    ----------
    encoder
        Pre-trained encoder.
    corpus
        ``index.json`` of the pre-training cells.
    genes
        The vocabulary, ``genes.tsv``.
    table
        CSV with :data:`GENES`, a line per expressed gene, the most attended first; genes that too few
        cells express have no rank.
    cells
        CSV with :data:`CELLS`, a line per cell and set of genes: its cluster and its place in a t-SNE.
    out
        JSON file of facts: ``interpretation.top_genes``, ``.ari_attended``, ``.ari_expressed`` and the
        intervals of both and of their difference (see :func:`ari_intervals`).

    Raises
    ------
    UserError
        For files of another vocabulary, or fewer than two cells of a kind.
    """
    vocabulary = Vocabulary.read(genes)
    source = Corpus.open(corpus, vocabulary.sha256)
    chosen = []
    for kind, name in enumerate((settings.normal_source, settings.tumour_source)):
        fitting = (source.tumour == kind) & (source.lengths > 0)
        if name:
            of_source = np.array([entry.source == name for entry in source.entries])
            fitting &= of_source[source.shard_of(np.arange(source.n_cells))]
        what = f"{corpus}: {KINDS[kind]} cells of {name or 'any source'}"
        chosen.append(np.sort(draw(fitting, settings.n_cells, [settings.seed, kind], 2, what)))
    rows = np.concatenate(chosen)
    tumour = source.tumour[rows].astype(np.int64)
    sample = CellsInMemory(source.take(rows))
    embedder = Embedder.read(encoder, vocabulary.sha256, settings.device)
    totals = gene_totals(embedder, sample, tumour, len(vocabulary), settings)
    ranks = {"attended": by_attention(totals, settings), "expressed": by_expression(totals)}
    if not len(ranks["attended"]):
        raise UserError("interpretation: enough cells express no gene; lower interpretation.min_share")
    attention, expression = totals.mean_attention(settings.average), totals.mean_expression()
    rank = {name: {int(gene): place for place, gene in enumerate(order, 1)} for name, order in ranks.items()}
    lines: list[Sequence[Any]] = []
    for gene in dict.fromkeys([*ranks["attended"].tolist(), *ranks["expressed"].tolist()]):
        places = [rank[name].get(gene, "") for name in ("attended", "expressed")]
        means = [_texts(numbers[[2, 0, 1], gene]) for numbers in (attention, expression)]
        expressing = totals.expressing[:, gene].astype(int)
        lines.append((vocabulary.symbols[gene], *places, *means[0], *expressing, *means[1]))
    write_csv(table, GENES, lines)
    found = {name: cluster(sample.ragged, ranks[name][: settings.n_genes], tumour, settings) for name in SETS}
    samples = source.samples(rows)
    write_csv(
        cells,
        CELLS,
        (
            (row, samples[i], KINDS[tumour[i]], name, one.cluster[i], *_texts(one.places[i]))
            for name, one in found.items()
            for i, row in enumerate(rows)
        ),
    )
    top = [vocabulary.symbols[gene] for gene in ranks["attended"][: settings.n_genes]]
    facts = {
        "top_genes": top,
        **{f"ari_{name}": round(found[name].ari, 4) for name in SETS},
        **ari_intervals(tumour, {name: found[name].cluster for name in SETS}, settings.seed),
        "n_cells": dict(zip(KINDS, np.bincount(tumour).tolist(), strict=True)),
        "n_genes": settings.n_genes,
        "layer": settings.layer,
        "average": settings.average,
    }
    log.info("most attended: %s; ARI %s", ", ".join(top[:3]), {n: found[n].ari for n in SETS})
    write_json(out, {"interpretation": facts})


@torch.no_grad()
def gene_totals(
    embedder: Embedder,
    cells: Cells,
    tumour: NDArray[np.int64],
    n_genes: int,
    settings: InterpretationSettings,
) -> GeneTotals:
    """Sums of attention and expression by kind of cell and gene, in one pass over the cells."""
    attention, expressing = (torch.zeros(2 * n_genes, dtype=torch.float64) for _ in range(2))
    layer = -1 if settings.layer == "last" else None
    for rows in length_buckets(embedder.tokeniser.lengths(cells), settings.token_budget):
        batch = embedder.tokeniser(cells.take(rows))
        found = embedder.encoder.cls_attention(*batch.to(embedder.device), layer=layer)
        weights = found.mean(1).double().cpu()
        shown = batch.mask & (batch.gene_ids < n_genes)
        kind = torch.from_numpy(tumour[rows]).unsqueeze(1)
        place = (kind * n_genes + batch.gene_ids)[shown]
        attention.index_add_(0, place, weights[shown])
        expressing.index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
    ragged = cells.take(np.arange(cells.n_cells))
    place_of = np.repeat(tumour, ragged.lengths) * n_genes + ragged.gene_ids
    expression = np.bincount(place_of, ragged.expression / 2**FRACTION_BITS, minlength=2 * n_genes)
    return GeneTotals(
        n_cells=np.bincount(tumour, minlength=2),
        attention=attention.numpy().reshape(2, n_genes),
        expressing=expressing.numpy().reshape(2, n_genes),
        expression=expression.astype(np.float64).reshape(2, n_genes),
    )


def by_attention(totals: GeneTotals, settings: InterpretationSettings) -> NDArray[np.int64]:
    """Genes that enough cells express, the most attended first."""
    needed = max(1.0, settings.min_share * totals.n_cells.sum())
    ranked = np.flatnonzero(totals.expressing.sum(0) >= needed)
    mean = totals.mean_attention(settings.average)[2]
    return ranked[np.argsort(-mean[ranked], kind="stable")]


def by_expression(totals: GeneTotals) -> NDArray[np.int64]:
    """Expressed genes, that of the highest mean expression over all cells first."""
    mean = totals.mean_expression()[2]
    return np.argsort(-mean, kind="stable")[: int((mean > 0).sum())]


@dataclass(frozen=True)
class Clustering:
    """Two clusters of cells, their agreement with normal and tumour, and places in a t-SNE (n_cells, 2)."""

    cluster: NDArray[np.int64]
    ari: float
    places: NDArray[np.float64]


def cluster(
    cells: Ragged, genes: Sequence[int] | NDArray[Any], tumour: NDArray[Any], settings: InterpretationSettings
) -> Clustering:
    """K-means with two clusters on the expression of some genes; the adjusted Rand index beside it."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    x = expression_of_genes(cells, genes)
    n_clusters = min(2, len(np.unique(x, axis=0)))  # cells without any of the genes are all alike
    found = KMeans(n_clusters, n_init=10, random_state=settings.seed).fit_predict(x)
    return Clustering(found, float(adjusted_rand_score(tumour, found)), tsne(x, settings.seed))


def ari_intervals(
    tumour: NDArray[Any], clusters: Mapping[str, NDArray[Any]], seed: int, n_draws: int = 1000
) -> dict[str, list[float]]:
    """95 % intervals of the Rand indices and of their gain, from cells drawn again; clusters stay as found.

    ``ari_attended_interval``, ``ari_expressed_interval`` and ``ari_gain_interval``: lower end, upper end,
    number of cells (percentile bootstrap, Efron & Tibshirani 1993, chapter 13).
    """
    from sklearn.metrics import adjusted_rand_score

    draw = np.random.default_rng(seed)
    values = np.empty((n_draws, len(SETS)))
    for row in values:
        cells = draw.integers(0, len(tumour), len(tumour))
        row[:] = [adjusted_rand_score(tumour[cells], clusters[name][cells]) for name in SETS]
    of = dict(zip(SETS, values.T, strict=True))
    found = {**of, "gain": of["attended"] - of["expressed"]}
    ends = {name: np.quantile(series, (0.025, 0.975)).round(4).tolist() for name, series in found.items()}
    return {f"ari_{name}_interval": [*pair, len(tumour)] for name, pair in ends.items()}


def expression_of_genes(cells: Ragged, genes: Sequence[int] | NDArray[Any]) -> NDArray[np.float64]:
    """Log-normalised expression of some genes, (n_cells, len(genes))."""
    from scipy.sparse import csr_matrix

    values = cells.expression / 2**FRACTION_BITS
    table = csr_matrix((values, cells.gene_ids.astype(np.int32), cells.indptr), (len(cells), 2**16))
    return table[:, np.asarray(genes, dtype=np.int64)].toarray()


def tsne(x: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Places of the rows in two dimensions: scikit-learn's t-SNE with its defaults, begun from the PCA."""
    from sklearn.manifold import TSNE

    if len(x) < 4 or min(x.shape) < 2 or np.ptp(x) == 0:
        return np.zeros((len(x), 2))
    perplexity = min(30.0, (len(x) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x).astype(np.float64)


def _texts(values: Sequence[float] | NDArray[Any]) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.6g}" for value in values]
