"""Order of the cells: seeded epochs of logical batches, and chunks of cells of similar length."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from celllm.errors import UserError


def length_buckets(
    lengths: ArrayLike, token_budget: int, rows: ArrayLike | None = None
) -> list[NDArray[np.int64]]:
    """Cut cells into chunks of like length that fit a number of tokens.

    A chunk of B cells has ``B * (1 + longest) <= token_budget``, padding and [CLS] included; a cell longer
    than the budget is a chunk of its own. ``lengths``, (n_cells,), are genes of each cell; ``rows`` the cells
    to cut, as places in it. Returned are chunks of rows, longest cells first, so that too small a memory
    shows at once.
    """
    if token_budget < 1:
        raise UserError(f"token_budget: expected at least 1, got {token_budget}")
    lengths = np.asarray(lengths)
    rows = np.arange(len(lengths)) if rows is None else np.asarray(rows, dtype=np.int64)
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    chunks, start = [], 0
    while start < len(rows):
        stop = start + max(1, token_budget // (1 + int(lengths[rows[start]])))
        chunks.append(rows[start:stop])
        start = stop
    return chunks


class EpochSampler:
    """Endless logical batches of random cells: each epoch a new seeded order, resumable at any batch.

    Drawn are ``rows``, places in 0..n-1, or all. The order of an epoch depends on the seed and the number of
    the epoch alone. A rest smaller than a batch is left out of its epoch (another order leaves out others),
    since the contrastive loss depends on the number of cells; with fewer cells than a batch every batch is
    all of them.
    """

    def __init__(self, n: int, batch_size: int, seed: int, rows: ArrayLike | None = None) -> None:
        self.rows = np.arange(n) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(self.rows) == 0:
            raise UserError(
                "there is no cell to draw batches from; check the data sets and filters of this run"
            )
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}")
        self.batch_size = min(batch_size, len(self.rows))
        self.seed = seed
        self.epoch = 0
        self.position = 0
        self._order = self._draw()

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches of an epoch."""
        return len(self.rows) // self.batch_size

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return self

    def __next__(self) -> NDArray[np.int64]:
        """Rows of the next batch, (batch_size,)."""
        if self.position == self.batches_per_epoch:
            self.epoch, self.position = self.epoch + 1, 0
            self._order = self._draw()
        start = self.position * self.batch_size
        self.position += 1
        return self._order[start : start + self.batch_size]

    def _draw(self) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)

    def state(self) -> dict[str, Any]:
        """Where the sampler stands, as plain numbers."""
        return {"epoch": self.epoch, "position": self.position} | self._fixed()

    def _fixed(self) -> dict[str, int]:
        return {"seed": self.seed, "batch_size": self.batch_size, "n_rows": len(self.rows)}

    def load(self, state: dict[str, Any]) -> None:
        """Go where another sampler stood; one of other cells, batch size or seed is a :class:`UserError`."""
        for name, here in self._fixed().items():
            if state[name] != here:
                raise UserError(
                    f"checkpoint: {name} was {state[name]}, this run has {here}; keep it or start over"
                )
        self.epoch, self.position = state["epoch"], state["position"]
        self._order = self._draw()
