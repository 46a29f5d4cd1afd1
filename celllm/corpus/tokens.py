"""From cells to tokens: bins of expression, batches for the encoder."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from celllm.corpus.expressed import FRACTION_BITS, Cells, Ragged, truncate
from celllm.corpus.settings import LogBase
from celllm.errors import UserError

# Expression tokens: the bins 0 to 5, then these two. [PAD] is [MASK] too, as in scBERT.
N_BINS = 6
CLS_BIN = 6
PAD_BIN = 7
MASK_BIN = PAD_BIN
N_TOKENS = 8


def bins(expression: NDArray[np.uint16], n_bins: int = N_BINS, log_base: LogBase = "e") -> NDArray[np.uint8]:
    """Expression bins: the integer part of the logarithm, at most ``n_bins - 1``.

    Base e is exact. Base 2 (scBERT) is read from the stored number, whose last place is 1/4096 of a natural
    logarithm: a value less than that below a boundary falls into the bin above.
    """
    return _bin_table(n_bins, log_base)[expression]


@cache
def _bin_table(n_bins: int, log_base: LogBase) -> NDArray[np.uint8]:
    """Bin of each of the 65,536 stored numbers."""
    width = {"e": 1.0, "2": math.log(2)}[log_base]
    bounds = np.floor(np.arange(1, n_bins) * width * 2**FRACTION_BITS)
    return np.searchsorted(bounds, np.arange(2**16), side="right").astype(np.uint8)


@dataclass(frozen=True)
class CellBatch:
    """Cells as the encoder takes them, [CLS] first, padded to the longest.

    ``gene_ids`` and ``bins``, (B, L) int64, are vocabulary index and expression token; ``mask``, (B, L) bool,
    is True at real tokens.
    """

    gene_ids: torch.Tensor
    bins: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        return len(self.gene_ids)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """The three tensors, so that ``encoder(*batch)`` works."""
        yield from (self.gene_ids, self.bins, self.mask)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "CellBatch":
        """The batch on another device."""
        return CellBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))

    def slice(self, start: int, stop: int) -> "CellBatch":
        """Cells ``start`` up to and without ``stop``, cut to the longest of them."""
        mask = self.mask[start:stop]
        length = int(mask.sum(1).max()) if len(mask) else 0
        return CellBatch(*(tensor[start:stop, :length] for tensor in self))


@dataclass(frozen=True)
class Tokeniser:
    """Makes batches of cells.

    Gene id ``n_genes``, the size of the vocabulary, is [CLS], ``n_genes + 1`` is [PAD]. A cell has at most
    ``max_length`` tokens, [CLS] counted: those of its highest expressed genes (of equals the first), or of
    the first in gene order, as in the released code. With ``zeros`` (scBERT) every cell is instead the full
    vector of ``genes``, vocabulary indices or all, zeros included. For ``n_bins`` and ``log_base`` see
    :func:`bins`.
    """

    n_genes: int
    max_length: int = 6000
    keep: Literal["highest", "first"] = "highest"
    zeros: bool = False
    genes: NDArray[np.int64] | None = None
    n_bins: int = N_BINS
    log_base: LogBase = "e"

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise UserError(f"tokens.max_length: expected at least 2, got {self.max_length}")
        if self.keep not in ("highest", "first"):
            raise UserError(f"tokens.keep: expected 'highest' or 'first', got {self.keep!r}")
        if not 2 <= self.n_bins <= N_BINS:
            raise UserError(f"tokens.n_bins: expected 2 to {N_BINS}, got {self.n_bins}")

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {**vars(self), "genes": None if self.genes is None else [int(gene) for gene in self.genes]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Tokeniser":
        """The tokeniser of which :meth:`to_json` gave these values."""
        genes = values["genes"]
        return cls(**{**values, "genes": None if genes is None else np.array(genes, dtype=np.int64)})

    def lengths(self, cells: Cells) -> NDArray[np.int64]:
        """Genes that each cell will take in a batch, (n_cells,); what :func:`length_buckets` wants."""
        if self.zeros:
            return np.full(cells.n_cells, len(self._columns()), dtype=np.int64)
        return np.minimum(cells.lengths, self.max_length - 1)

    def __call__(self, ragged: Ragged) -> CellBatch:
        """Tokens of these cells."""
        return self._full_vectors(ragged) if self.zeros else self._expressed(ragged)

    def _expressed(self, ragged: Ragged) -> CellBatch:
        ragged = truncate(ragged, self.max_length - 1, self.keep)
        lengths = torch.from_numpy(ragged.lengths)
        width = 1 + int(lengths.max()) if len(lengths) else 1
        mask = torch.arange(width) <= lengths.unsqueeze(1)
        # Row by row the genes come in the order in which they are stored.
        genes = mask.clone()
        genes[:, 0] = False
        gene_ids = torch.full(mask.shape, self.n_genes + 1)
        tokens = torch.full(mask.shape, PAD_BIN)
        expression_bins = bins(ragged.expression, self.n_bins, self.log_base)
        gene_ids.masked_scatter_(genes, torch.from_numpy(ragged.gene_ids.astype(np.int64)))
        tokens.masked_scatter_(genes, torch.from_numpy(expression_bins.astype(np.int64)))
        gene_ids[:, 0], tokens[:, 0] = self.n_genes, CLS_BIN
        return CellBatch(gene_ids, tokens, mask)

    def _full_vectors(self, ragged: Ragged) -> CellBatch:
        columns = self._columns()
        place = np.full(self.n_genes, -1)
        place[columns] = 1 + np.arange(len(columns))
        cell = np.repeat(np.arange(len(ragged)), ragged.lengths)
        column = place[ragged.gene_ids]
        known = column >= 0
        tokens = np.zeros((len(ragged), 1 + len(columns)), dtype=np.int64)
        tokens[cell[known], column[known]] = bins(ragged.expression[known], self.n_bins, self.log_base)
        tokens[:, 0] = CLS_BIN
        gene_ids = torch.from_numpy(np.concatenate([[self.n_genes], columns])).repeat(len(ragged), 1)
        return CellBatch(gene_ids, torch.from_numpy(tokens), torch.ones(tokens.shape, dtype=torch.bool))

    def _columns(self) -> NDArray[np.int64]:
        return np.arange(self.n_genes) if self.genes is None else np.asarray(self.genes, dtype=np.int64)
