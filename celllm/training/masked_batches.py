"""Logical batches for pre-training: random cells in chunks of similar length, some expressions hidden."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.corpus.batches import EpochSampler, length_buckets
from celllm.corpus.shards import Corpus
from celllm.corpus.tokens import Tokeniser
from celllm.training.objectives import MaskedCells, hide_expressions
from celllm.training.randomness import Stream, seed_of
from celllm.training.settings import PretrainSettings


@dataclass(frozen=True)
class Batch:
    """The cells of one optimiser step, as far as this process embeds them."""

    n_cells: int  # of the logical batch, over all processes
    rows: list[NDArray[np.int64]]  # places in the corpus of the cells of each chunk
    chunks: list[MaskedCells]  # the cells, ready for the encoder
    sampler: dict[str, Any]  # state of the sampler behind this batch

    @property
    def n_masked(self) -> int:
        """Tokens to predict."""
        return sum(len(chunk.targets) for chunk in self.chunks)

    @property
    def n_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return sum(int(chunk.mask.sum()) for chunk in self.chunks)

    @property
    def largest(self) -> int:
        """Tokens of the largest chunk, padding counted: what one forward pass has to hold."""
        return max(chunk.mask.numel() for chunk in self.chunks)


@dataclass
class BatchMaker:
    """Makes the batches of a run in order; each cell is embedded by one of the ``n_ranks`` processes."""

    corpus: Corpus
    tokeniser: Tokeniser
    sampler: EpochSampler
    settings: PretrainSettings
    rank: int = 0
    n_ranks: int = 1

    def __post_init__(self) -> None:
        self.lengths = self.tokeniser.lengths(self.corpus)

    def make(self, step: int) -> Batch:
        """Make the next batch, which is that of optimiser step ``step``."""
        rows = next(self.sampler)
        rng = np.random.default_rng(seed_of(self.settings.seed, Stream.MASKS, step))
        numbers = rng.integers(2**64, size=len(rows), dtype=np.uint64)
        # Every n-th in the order of length: the processes get equal shares of work.
        own = np.argsort(self.lengths[rows], kind="stable")[self.rank :: self.n_ranks]
        cut = length_buckets(self.lengths[rows[own]], self.settings.token_budget)
        chunks = [own[places] for places in cut]
        hidden = [
            hide_expressions(
                self.tokeniser(self.corpus.take(rows[places])),
                numbers[places],
                self.corpus.tumour[rows[places]],
                mask_rate=self.settings.mask_rate,
                replace_rate=self.settings.replace_rate,
                spare_zeros=self.tokeniser.zeros,
            )
            for places in chunks
        ]
        return Batch(len(rows), [rows[places] for places in chunks], hidden, self.sampler.state())
