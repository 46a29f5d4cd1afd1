"""Expression values as the methods without an encoder see them."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix


def log_normalised(counts: csr_matrix) -> csr_matrix:
    """Return x = ln(1 + 10^4 n / sum n) of cells x genes, the paper's normalisation, cell by cell (float32).

    A cell without counts stays zero.
    """
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    per_cell = 1e4 / np.where(totals > 0, totals, 1.0)
    x = csr_matrix(counts, dtype=np.float32, copy=True)
    x.data = np.log1p(x.data * np.repeat(per_cell, np.diff(x.indptr))).astype(np.float32)
    return x


def variable_genes(x: csr_matrix, n_top_genes: int) -> NDArray[np.int64]:
    """Columns of the genes that vary most over log-normalised cells, by Scanpy's default; 0 takes all."""
    if not 0 < n_top_genes < x.shape[1]:
        return np.arange(x.shape[1])
    import scanpy as sc
    from anndata import AnnData

    found = sc.pp.highly_variable_genes(AnnData(x), n_top_genes=n_top_genes, inplace=False)
    return np.flatnonzero(found["highly_variable"])


def centred(expression: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return expression, cells x genes, minus its mean over ``rows``.

    It is scaled by one number, so that the cells of ``rows`` have mean square length 1. Genes are not scaled
    one by one: one that hardly varies would weigh as much as any.
    """
    x = expression - expression[rows].mean(axis=0)
    length = np.square(x[rows]).sum(axis=1).mean()
    return x / np.sqrt(length) if length > 0 else x
