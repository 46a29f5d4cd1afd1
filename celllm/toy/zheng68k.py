"""The one real data set of the toy mirror: 700 cells of Zheng et al. 2017 that scanpy ships."""

import numpy as np
from scipy import sparse

from celllm.toy.biology import approved
from celllm.toy.packing import ToyFile, gzipped, matrix_market, table, tarred
from celllm.toy.reference import Identifiers


def recover_counts(log_normalised: sparse.spmatrix, totals: np.ndarray) -> sparse.csr_matrix:
    """Integer counts behind ``ln(1 + 10⁴ n / total)``.

    Parameters
    ----------
    log_normalised
        (cells, genes).
    totals
        Total counts of each cell before any gene was dropped, shape (cells,).

    Raises
    ------
    ValueError
        When a recovered value is more than 0.1 away from a whole number.
    """
    counts = sparse.csr_matrix(log_normalised, dtype=np.float64)
    per_entry = np.repeat(np.asarray(totals, dtype=np.float64), np.diff(counts.indptr))
    exact = np.expm1(counts.data) * per_entry / 1e4
    counts.data = exact.round()
    off = np.abs(exact - counts.data).max(initial=0.0)
    if off > 0.1:
        raise ValueError(
            f"values are not log-normalised counts of these totals: {off:.2f} from a whole number"
        )
    counts.eliminate_zeros()
    return counts


def zheng68k_files(ids: Identifiers) -> list[ToyFile]:
    """Matrix archive and label table; the labels are scanpy's ``bulk_labels``."""
    import scanpy

    cells = scanpy.datasets.pbmc68k_reduced()
    counts = recover_counts(cells.raw.X, cells.obs["n_counts"].to_numpy())
    genes = [(ids.ensembl(approved(name)), name) for name in cells.raw.var_names]
    folder = "filtered_matrices_mex/hg19"
    members = {
        f"{folder}/matrix.mtx": matrix_market(counts.T),
        f"{folder}/genes.tsv": table(genes),
        f"{folder}/barcodes.tsv": table([name] for name in cells.obs_names),
    }
    plot = cells.obsm["X_umap"].round(3).tolist()
    labels = zip(plot, cells.obs_names, cells.obs["bulk_labels"], strict=True)
    rows = [("TSNE.1", "TSNE.2", "barcodes", "celltype"), *((x, y, b, label) for (x, y), b, label in labels)]
    archive = "zheng68k/fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz"
    stands_for, kind = "10x Genomics, fresh 68k PBMC donor A", "real cells; gene ids are placeholders"
    labelling = "real cells; the other public labelling, UMAP instead of t-SNE"
    return [
        ToyFile(archive, gzipped(tarred(members)), stands_for, kind),
        ToyFile(
            "zheng68k/68k_pbmc_barcodes_annotation.tsv", table(rows), "Zheng et al. 2017: labels", labelling
        ),
    ]
