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


def centred(counts: csr_matrix, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return log-normalised expression, cells x genes, minus its mean over ``rows``.

    It is scaled by one number, so that the cells of ``rows`` have mean square length 1. Genes are not scaled
    one by one: one that hardly varies would weigh as much as any.
    """
    x = log_normalised(counts).toarray().astype(np.float64)
    x -= x[rows].mean(axis=0)
    length = np.square(x[rows]).sum(axis=1).mean()
    return x / np.sqrt(length) if length > 0 else x
