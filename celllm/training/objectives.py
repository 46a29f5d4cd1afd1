"""What pre-training minimises: masked expressions, tumour or normal, and the contrast between dropout passes.

Normalisers are those of the whole logical batch, so that neither chunks nor processes change a loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from celllm.corpus.tokens import MASK_BIN, CellBatch
from celllm.model.encoder import Encoder
from celllm.model.heads import ContrastPooling, MaskedExpressionHead, TumourHead, cell_embedding
from celllm.training.contrastive import at_least_float32
from celllm.training.settings import ContrastOn


@dataclass(frozen=True)
class MaskedCells:
    """Cells with some expression tokens hidden, and what was there."""

    gene_ids: Tensor  # (B, L), as in CellBatch
    bins: Tensor  # (B, L), [MASK] where a token is hidden
    mask: Tensor  # (B, L)
    chosen: Tensor  # (B, L) bool: the tokens to predict, hidden or not
    targets: Tensor  # (number of chosen tokens,) int64: their expression tokens, row by row
    tumour: Tensor  # (B,) int64: 1 for a tumour cell

    def __len__(self) -> int:
        return len(self.gene_ids)

    def __iter__(self) -> Iterator[Tensor]:
        yield from (self.gene_ids, self.bins, self.mask, self.chosen, self.targets, self.tumour)

    def to(self, device: torch.device) -> "MaskedCells":
        """The cells on another device."""
        return MaskedCells(*(tensor.to(device, non_blocking=True) for tensor in self))


def hide_expressions(
    cells: CellBatch,
    numbers: NDArray[np.uint64],
    tumour: NDArray[np.uint8],
    *,
    mask_rate: float = 0.15,
    replace_rate: float = 0.9,
    spare_zeros: bool = False,
) -> MaskedCells:
    """Choose expression tokens to predict and replace most of them by [MASK]; [CLS] is never chosen.

    Of each cell ``ceil(mask_rate * n)`` of its n expression tokens are chosen, as in scBERT, and each of them
    is replaced with probability ``replace_rate``. Every cell brings a random 64-bit number of its own (B,)
    that alone decides about its tokens, so it does not matter in which chunk a cell stands. ``tumour`` (B,)
    is 1 for a tumour cell. With ``spare_zeros`` no tokens of bin 0 are chosen, as in scBERT, whose cells hold
    the genes that are not expressed too.
    """
    bins = cells.bins.numpy()
    eligible = cells.mask.numpy().copy()
    eligible[:, 0] = False
    if spare_zeros:
        eligible &= bins > 0
    # Random scores of tokens, (B, L): SplitMix64 (Steele et al. 2014) seeded by each cell's number.
    places: NDArray[np.uint64] = np.arange(1, bins.shape[1] + 1, dtype=np.uint64)
    z = numbers[:, None] + places * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scores = z ^ (z >> np.uint64(31))
    # Rounded first: 0.15 * 20 in floating point may lie above 3.
    n_chosen = np.ceil(np.round(mask_rate * eligible.sum(1), 9)).astype(np.int64)
    ascending = np.sort(np.where(eligible, scores, np.uint64(2**64 - 1)), axis=1)
    last = np.take_along_axis(ascending, np.maximum(n_chosen - 1, 0)[:, None], axis=1)
    chosen = eligible & (scores <= last)
    # Which scores are small says nothing about their lower halves.
    replaced = chosen & ((scores & np.uint64(2**32 - 1)) < np.uint64(int(replace_rate * 2**32)))
    return MaskedCells(
        cells.gene_ids,
        torch.from_numpy(np.where(replaced, MASK_BIN, bins)),
        cells.mask,
        torch.from_numpy(chosen),
        torch.from_numpy(bins[chosen]),
        torch.from_numpy(tumour.astype(np.int64)),
    )


class PretrainingModel(nn.Module):
    """Encoder and the heads of the objectives in use.

    The contrastive loss compares ``pooled`` vectors (gene pooling and a linear layer to ``size`` numbers, as
    the paper; Table F.1: 512), the vector of [CLS], or the ``mean`` over a cell's genes; None: no contrast.
    ``tumour``: with the head that separates tumour cells from normal ones.
    """

    def __init__(
        self, encoder: Encoder, *, contrast: ContrastOn | None, tumour: bool, size: int = 512
    ) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.mlm = MaskedExpressionHead(config.dim, config.n_tokens)
        self.tumour = TumourHead(config.dim) if tumour else None
        self.contrast = contrast
        self.pooling = ContrastPooling(config.n_genes, config.dim, size) if contrast == "pooled" else None
        self.contrast_size = size if contrast == "pooled" else config.dim

    def forward(self, cells: MaskedCells) -> tuple[Tensor, Tensor]:
        """What the contrast compares (B, contrast_size), and the states of all tokens (B, L, dim).

        Without contrast the first is (B, 0).
        """
        states = self.encoder(cells.gene_ids, cells.bins, cells.mask)
        if self.pooling is not None:
            return self.pooling(states, cells.gene_ids, cells.mask), states
        if self.contrast == "cls" or self.contrast == "mean":
            return cell_embedding(states, cells.mask, self.contrast), states
        return states.new_zeros(len(cells), 0), states

    def losses(self, cells: MaskedCells, states: Tensor) -> dict[str, Tensor]:
        """Cross-entropies of masked expressions and of tumour/normal, *summed* over tokens and cells.

        Source: paper, sections 3.3.2 and 3.3.3.
        """
        predicted = at_least_float32(self.mlm(states, cells.chosen))
        losses = {"mlm": functional.cross_entropy(predicted, cells.targets, reduction="sum")}
        if self.tumour is not None:
            predicted = at_least_float32(self.tumour(states))
            losses["tumour"] = functional.cross_entropy(predicted, cells.tumour, reduction="sum")
        return losses
