"""Scanpy's label transfer (``scanpy.tl.ingest``), the row "Scanpy" of the paper's Table 1."""

from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from sklearn.neighbors import NearestNeighbors

from celllm.methods.expression import log_normalised, variable_genes
from celllm.methods.method import Labels, Method, Part, Predict
from celllm.methods.settings import IngestSettings

_LABEL = "label"


class ExactIngest(sc.tl.Ingest):
    """Scanpy's ``Ingest`` with an exact index of neighbours.

    The original builds an approximate index through arguments that pynndescent 0.7 no longer has, after
    compiling for half a minute. An exact index needs neither, and finds what the other looks for.
    """

    def _init_pynndescent(self, distances: Any) -> None:
        self._nnd_idx = NearestNeighbors().fit(self._rep)

    def neighbors(self, k: int | None = None, **_: Any) -> None:
        """Find the ``k`` nearest reference cells of every new cell."""
        found = self._nnd_idx.kneighbors(self._obsm["rep"], k or self._n_neighbors)
        self._distances, self._indices = found


def fit_ingest(train: Part, settings: IngestSettings, seed: int) -> Predict:
    """Label transfer through the principal components of the training cells, as in Scanpy's tutorial.

    Scanpy centres new cells on their *own* mean, so that a prediction depends on the cells predicted with it.
    """
    # Over the most variable genes, named by their place.
    x = log_normalised(train.counts)
    genes = variable_genes(x, settings.n_top_genes)
    reference = AnnData(x[:, genes])
    reference.var_names = genes.astype(str)
    reference.obs[_LABEL] = train.known
    n_components = min(settings.n_components, min(reference.shape) - 1)
    sc.pp.pca(reference, n_comps=n_components, random_state=seed)
    # Only the number of neighbours and the representation are read from what this makes; "gauss" spares
    # the compilation of UMAP.
    sc.pp.neighbors(
        reference,
        n_neighbors=min(settings.n_neighbors, reference.n_obs - 1),
        n_pcs=n_components,
        method="gauss",
        transformer="sklearn",
    )

    def predict(part: Part) -> Labels:
        new = AnnData(log_normalised(part.counts)[:, genes])
        new.var_names = reference.var_names
        ingest = ExactIngest(reference)
        ingest.fit(new)
        ingest.neighbors()
        ingest.map_labels(_LABEL, "knn")
        return np.asarray(ingest.to_adata().obs[_LABEL]).astype(str)

    return predict


METHODS = {"scanpy_ingest": Method(fit_ingest, IngestSettings)}
