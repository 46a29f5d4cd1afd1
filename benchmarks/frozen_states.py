"""Frozen states on disk at the size of a real data set: an epoch with and without them, bytes, memory.

    python benchmarks/frozen_states.py --cells 20000 --depth 4 --dim 32

Made-up cells with as many expressed genes as Zheng68k's, of which a sixth is the selection. The last layer is
trained; the layers below run once, and their output is read from a file of the process, as where a data set
is too large for memory (``store_mib: 0``). Without the states, an epoch of ``--sample`` cells is scaled.
Memory is what the process has allocated: pages of the file are the system's, which takes them back.
"""

import argparse
import re
import threading
import time
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack

from celllm.corpus.expressed import CellsInMemory, from_csr
from celllm.corpus.tokens import Tokeniser
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.training.finetune import FineTuned, Finetuner, FinetuneSettings, class_weights

N_GENES, N_CLASSES = 2000, 5
MIB = 2**20


def made_up_cells(n: int, n_expressed: int) -> CellsInMemory:
    """Cells with about ``n_expressed`` genes each, of five classes that differ in a twentieth of them."""
    rng, blocks = np.random.default_rng(0), []
    for start in range(0, n, 1000):
        classes = np.arange(start, min(start + 1000, n)) % N_CLASSES
        rates = np.full((len(classes), N_GENES), -np.log(1 - n_expressed / N_GENES))
        rates[np.arange(N_GENES)[None] // (N_GENES // 20) == classes[:, None]] *= 3
        blocks.append(csr_matrix(rng.poisson(rates).astype(np.float32)))
    return from_csr(vstack(blocks, format="csr"), np.arange(N_GENES))


def allocated() -> float:
    """Memory of this process in MiB, without pages of files."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


class Highest:
    """The most memory while the block lasts, looked at ten times a second."""

    def __enter__(self) -> "Highest":
        self.mib, self._ended = allocated(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self.mib = max(self.mib, allocated())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in {
        "cells": 20000,
        "expressed": 545,
        "depth": 4,
        "dim": 32,
        "heads": 1,
        "dim-head": 32,
        "epochs": 2,
        "sample": 1000,
        "threads": 1,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16", help="of the states")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    config = EncoderConfig(
        n_genes=N_GENES, dim=chosen.dim, depth=chosen.depth, heads=chosen.heads, dim_head=chosen.dim_head
    )
    encoder = Encoder(config, torch.randn(N_GENES, chosen.dim))
    cells, genes = made_up_cells(chosen.cells, chosen.expressed), np.arange(N_GENES)
    targets = np.arange(chosen.cells) % N_CLASSES
    settings = FinetuneSettings(store_mib=0, store_dtype=chosen.dtype, precision="float32")

    def epochs(n: int, n_cells: int, settings: FinetuneSettings) -> list[tuple[float, float, float]]:
        """Processor seconds, seconds and the most memory of each epoch."""
        tuner = Finetuner(Embedder(encoder, Tokeniser(N_GENES)), cells, genes, N_CLASSES, settings)
        began = time.process_time(), time.perf_counter()
        with Highest() as highest:
            tuner.states.take(np.arange(1))
        if tuner.states.n_computed > 1:
            size = int((tuner.states.lengths + 1).sum()) * (4 + chosen.dim * tuner.states.dtype.itemsize)
            seconds = f"{time.process_time() - began[0]:.0f} s ({time.perf_counter() - began[1]:.0f} s)"
            print(f"states: {size / MIB:.0f} MiB on disk, {chosen.dtype}, made once in {seconds}")
            print(f"while they are made: at most {highest.mib:.0f} MiB of memory")
        model = FineTuned(encoder, tuner.n_frozen, genes, N_CLASSES, settings)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        order, found = np.random.default_rng(0), []
        train, selection = np.arange(n_cells * 5 // 6), np.arange(n_cells * 5 // 6, n_cells)
        weights = torch.as_tensor(class_weights(targets[train], N_CLASSES, "released")).float()
        for _ in range(n):
            began = time.process_time(), time.perf_counter()
            with Highest() as highest:
                tuner.epoch(model, optimiser, (train, targets[train]), weights, order)
                tuner.logits(model, selection)
            found.append((time.process_time() - began[0], time.perf_counter() - began[1], highest.mib))
        return found

    print(f"{chosen.depth} layers, dim {chosen.dim}, {chosen.cells} cells: {allocated():.0f} MiB of memory")
    print("seconds of the processor (of the clock)")
    kept = epochs(chosen.epochs, chosen.cells, settings)
    for number, (seconds, wall, mib) in enumerate(kept, 1):
        print(f"epoch {number} with reuse: {seconds:.0f} s ({wall:.0f} s), at most {mib:.0f} MiB of memory")
    sample = epochs(1, chosen.sample, settings.changed(spill_mib=0))[0][0]
    without = sample * chosen.cells / chosen.sample
    print(f"epoch without: {without:.0f} s, from {chosen.sample} cells: {without / kept[-1][0]:.1f} times")


if __name__ == "__main__":
    main()
