"""Cells of unequal length: non-zero genes and their stored expressions; nothing here needs PyTorch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celllm.errors import UserError

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from celllm.cells.genes import Vocabulary

# Stored expressions are fixed-point numbers with 12 bits behind the point: ln(1 + 10^4) = 9.21 fits 16 bits.
FRACTION_BITS = 12
TARGET_SUM = 1e4
BLOCK = 2048
"""Cells that are worked on at a time: what is needed meanwhile takes several times their own memory."""


@dataclass(frozen=True)
class Ragged:
    """Non-zero genes of cells, one cell after the other.

    Cell i owns the places ``indptr[i]:indptr[i + 1]`` of ``gene_ids``, vocabulary indices that ascend within
    a cell, and of ``expression``, ``floor(4096 * ln(1 + 10^4 n / sum n))``.
    """

    indptr: NDArray[np.int64]
    gene_ids: NDArray[np.uint16]
    expression: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Non-zero genes of each cell, (n_cells,)."""
        return np.diff(self.indptr)


class Cells(Protocol):
    """Cells that can be read in any order: in memory or in the shards of a corpus."""

    @property
    def n_cells(self) -> int:
        """Number of cells."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Non-zero genes of each cell, (n_cells,)."""

    def take(self, rows: ArrayLike) -> Ragged:
        """Cells of these rows, in this order."""


@dataclass(frozen=True)
class CellsInMemory:
    """Cells held in memory; implements :class:`Cells`."""

    ragged: Ragged

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.ragged)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Non-zero genes of each cell, (n_cells,)."""
        return self.ragged.lengths

    def take(self, rows: ArrayLike) -> Ragged:
        """Cells of these rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        starts, stops = self.ragged.indptr[rows], self.ragged.indptr[rows + 1]
        parts = [(self.ragged.gene_ids, self.ragged.expression)]
        return gather(parts, np.zeros(len(rows), dtype=np.int64), starts, stops)


def gather(
    parts: Sequence[tuple[NDArray[np.uint16], NDArray[np.uint16]]],
    which: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> Ragged:
    """Copy the places ``starts[i]:stops[i]`` of ``parts[which[i]]`` one after the other.

    Contiguous copies of whole cells: four times as fast as one index per stored value.
    """
    places = list(zip(which.tolist(), starts.tolist(), stops.tolist(), strict=True))
    indptr = np.concatenate([[0], np.cumsum(stops - starts)])
    empty = np.empty(0, dtype=np.uint16)
    genes = [parts[part][0][start:stop] for part, start, stop in places]
    expression = [parts[part][1][start:stop] for part, start, stop in places]
    return Ragged(indptr, np.concatenate([empty, *genes]), np.concatenate([empty, *expression]))


def expression_of(counts: "csr_matrix") -> NDArray[np.uint16]:
    """Expressions of the stored values of a matrix of cells x genes, in storage order.

    ``x = ln(1 + 10^4 n / sum n)`` over the cell's genes (paper, section 3.1), kept as ``floor(4096 x)``:
    shifting by 12 bits gives exactly ``floor(x)``.
    """
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    sums = np.bincount(cell, counts.data, minlength=counts.shape[0])
    fraction = counts.data / sums[cell]
    return np.floor(np.log1p(TARGET_SUM * fraction) * 2**FRACTION_BITS).astype(np.uint16)


def not_normalised(tpm: "csr_matrix", columns: ArrayLike) -> CellsInMemory:
    """Make cells of TPM as they are: ``x = ln(1 + TPM)``, with no sum taken over the genes of a cell.

    A tokeniser of base 2 then bins ``floor(log2(TPM + 1))``. See :func:`in_vocabulary` for the arguments.
    """
    matrix = in_vocabulary(tpm, columns)
    expression = np.floor(np.log1p(matrix.data.astype(np.float64)) * 2**FRACTION_BITS)
    most = np.iinfo(np.uint16).max  # e^16 - 1 TPM
    return _cells(matrix, np.minimum(expression, most).astype(np.uint16))


def from_csr(counts: Any, columns: ArrayLike) -> CellsInMemory:
    """Make cells from raw counts, some at a time; see :func:`in_vocabulary` for arguments and errors."""
    starts = range(0, max(1, counts.shape[0]), BLOCK)
    parts = [tokens_of(in_vocabulary(counts[start : start + BLOCK], columns)).ragged for start in starts]
    return CellsInMemory(concatenate(parts))


def in_vocabulary(counts: Any, columns: ArrayLike) -> "csr_matrix":
    """Put counts, cells x genes, into the order of the vocabulary.

    ``columns`` has the vocabulary index of each column; those below 0 take no part, in the sums neither. Back
    come cells x vocabulary, up to the last gene that occurs, without zeros, indices ascending within a cell.
    A value that is negative or not finite, and two columns of one gene, are a :class:`UserError`.
    """
    from scipy.sparse import csr_matrix

    columns = np.asarray(columns, dtype=np.int64)
    known = np.flatnonzero(columns >= 0)
    order = known[np.argsort(columns[known], kind="stable")]
    if len(np.unique(columns[order])) < len(order):
        raise UserError("counts: two columns of the same gene; sum them first")
    counts = csr_matrix(counts)[:, order]
    if not np.isfinite(counts.data).all() or (counts.data < 0).any():
        raise UserError("counts: a value is negative or not a number; expected raw counts")
    counts.sum_duplicates()
    counts.eliminate_zeros()
    shape = (counts.shape[0], int(columns.max(initial=-1)) + 1)
    return csr_matrix((counts.data, columns[order][counts.indices], counts.indptr), shape=shape)


def tokens_of(counts: "csr_matrix") -> CellsInMemory:
    """Make cells from counts in the order of the vocabulary (:func:`in_vocabulary`)."""
    return _cells(counts, expression_of(counts))


def _cells(matrix: "csr_matrix", expression: NDArray[np.uint16]) -> CellsInMemory:
    indptr, gene_ids = matrix.indptr.astype(np.int64), matrix.indices.astype(np.uint16)
    return CellsInMemory(Ragged(indptr, gene_ids, expression))


def blocks(data: "AnnData", vocabulary: "Vocabulary", block: int = BLOCK) -> Iterator["csr_matrix"]:
    """Read the counts of an opened prepared data set, ``block`` cells at a time, by :func:`in_vocabulary`.

    What ``X`` holds is taken as it is: counts, TPM, or whatever ``uns["celllm"]["values"]`` says. A file
    without a gene of the vocabulary is a :class:`UserError`.
    """
    columns = [vocabulary.index_of.get(symbol, -1) for symbol in data.var_names]
    if data.n_vars == 0 or max(columns) < 0:
        raise UserError(
            f"{data.filename}: none of its {data.n_vars} genes is in the vocabulary; prepare the file again"
        )
    for start in range(0, data.n_obs, block):
        yield in_vocabulary(data.X[start : start + block], columns)


def in_memory(data: "AnnData", vocabulary: "Vocabulary") -> CellsInMemory:
    """All cells of an opened prepared data set; see :func:`blocks`."""
    return CellsInMemory(concatenate([tokens_of(counts).ragged for counts in blocks(data, vocabulary)]))


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """Put cells behind each other; no part is no cell."""
    lengths = [part.lengths for part in parts]
    empty = np.empty(0, dtype=np.uint16)
    return Ragged(
        np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))]).astype(np.int64),
        np.concatenate([empty, *(part.gene_ids for part in parts)]),
        np.concatenate([empty, *(part.expression for part in parts)]),
    )


def truncate(ragged: Ragged, n_genes: int, keep: Literal["highest", "first"]) -> Ragged:
    """Keep at most ``n_genes`` genes of each cell, the highest expressed or the first, in their order."""
    lengths = ragged.lengths
    long = lengths > n_genes
    if not long.any():
        return ragged
    cell = np.repeat(np.arange(len(ragged)), lengths)
    order = np.flatnonzero(long[cell])
    if keep == "highest":
        order = order[np.lexsort((-ragged.expression[order].astype(np.int32), cell[order]))]
    ends = np.cumsum(lengths[long])
    rank = np.arange(len(order)) - np.repeat(ends - lengths[long], lengths[long])
    kept = np.ones(len(cell), dtype=bool)
    kept[order[rank >= n_genes]] = False
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, n_genes))])
    return Ragged(indptr, ragged.gene_ids[kept], ragged.expression[kept])
