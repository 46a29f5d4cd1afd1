"""Fine-tuning epochs with the output of the frozen layers kept, against running them for every batch.

    python benchmarks/finetune_reuse.py --depth 10 --dim 256 --cells 256

Both train the last layer on the same made-up cells in the same order, an epoch of one and one of the other in
turns; an epoch counts the training cells and the choice on a fifth as many. Prints seconds per epoch, their
ratio, the cost of filling the store once, and the largest difference between the logits of both models.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_matrix

from celllm.corpus.expressed import CellsInMemory, from_csr
from celllm.corpus.tokens import Tokeniser
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.training.finetune import FineTuned, Finetuner, FinetuneSettings, class_weights

N_GENES, N_CLASSES = 2000, 5


def made_up_cells(n: int, n_expressed: int) -> tuple[CellsInMemory, np.ndarray]:
    """Cells of five classes with about ``n_expressed`` genes each."""
    rng = np.random.default_rng(0)
    targets = rng.integers(N_CLASSES, size=n)
    rates = np.full((n, N_GENES), n_expressed / N_GENES)
    rates[np.arange(N_GENES)[None] // 20 == targets[:, None]] = 2.0
    return from_csr(csr_matrix(rng.poisson(rates).astype(np.float32)), np.arange(N_GENES)), targets


class Side:
    """One of the two: its tuner, its model, its optimiser, its times."""

    def __init__(
        self,
        encoder: Encoder,
        cells: CellsInMemory,
        settings: FinetuneSettings,
        clock: Callable[[], float],
    ) -> None:
        genes = np.arange(N_GENES)
        self.tuner = Finetuner(Embedder(encoder, Tokeniser(N_GENES)), cells, genes, N_CLASSES, settings)
        torch.manual_seed(0)
        self.model = FineTuned(encoder, self.tuner.n_frozen, genes, N_CLASSES, settings)
        self.optimiser = torch.optim.Adam(self.model.parameters(), settings.learning_rate, fused=True)
        self.order, self.times, self.clock = np.random.default_rng(0), [], clock

    def epoch(self, train: tuple[np.ndarray, np.ndarray], selection: np.ndarray, seed: int) -> None:
        """Train once over the cells and look at the selection, timed."""
        weights = torch.as_tensor(class_weights(train[1], N_CLASSES, "released")).float()
        torch.manual_seed(seed)
        start = self.clock()
        self.tuner.epoch(self.model, self.optimiser, train, weights, self.order)
        self.tuner.logits(self.model, selection)
        self.times.append(self.clock() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in {
        "depth": 10,
        "dim": 256,
        "heads": 8,
        "dim-head": 64,
        "cells": 256,
        "expressed": 250,
        "epochs": 3,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with one thread")
    chosen = parser.parse_args()
    clock = time.process_time if chosen.processor_time else time.perf_counter
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    config = EncoderConfig(
        n_genes=N_GENES, dim=chosen.dim, depth=chosen.depth, heads=chosen.heads, dim_head=chosen.dim_head
    )
    encoder = Encoder(config, torch.randn(N_GENES, chosen.dim))
    n_selection = chosen.cells // 5
    cells, targets = made_up_cells(chosen.cells + n_selection, chosen.expressed)
    train, selection = (
        (np.arange(chosen.cells), targets[: chosen.cells]),
        np.arange(chosen.cells, len(targets)),
    )
    kept = FinetuneSettings(learning_rate=1e-3, precision="float32")  # a step is 256 cells: Table F.1
    without_store = kept.changed(store_mib=0, spill_mib=0)
    sides = [Side(encoder, cells, settings, clock) for settings in (kept, without_store)]
    start = clock()
    for chunk in sides[0].tuner.states.chunks(np.arange(len(targets)), 2048):
        sides[0].tuner.states.take(chunk)
    filling = clock() - start
    for epoch in range(chosen.epochs):
        for side in sides:
            side.epoch(train, selection, epoch)
    with_reuse, without = (statistics.median(side.times) for side in sides)
    first, second = (side.tuner.logits(side.model, selection) for side in sides)
    print(f"{chosen.depth} layers, dim {chosen.dim}, {chosen.cells} + {n_selection} cells")
    print(f"filling the store once: {filling:.2f} s")
    print(f"epoch with reuse {with_reuse:.3f} s, without {without:.3f} s: {without / with_reuse:.2f} times")
    print(f"largest difference of logits after {chosen.epochs} epochs: {np.abs(first - second).max():.1e}")


if __name__ == "__main__":
    main()
