"""What divide-and-conquer costs and saves: time against end-to-end and its bound, peak memory against t.

    python benchmarks/divide_and_conquer.py            (8m encoder, 540 genes, a few minutes on 2 cores)
    python benchmarks/divide_and_conquer.py --size 50m --cells 4 --genes 1900 --precision bfloat16

Time is measured in alternating rounds within one process, memory in a process for each case. Both are those
of whole pre-training gradients: masked expressions, tumour/normal, contrast. Memory on a CPU is the largest
resident size within the second of two steps (Linux).
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from celllm.data.tokens import CellBatch
from celllm.model import Encoder, sized
from celllm.training.batches import Batch
from celllm.training.distributed import joined
from celllm.training.model_row import ModelRow
from celllm.training.objectives import hide_expressions
from celllm.training.pretrain_settings import PretrainSettings
from celllm.training.trainer import Trainer

N_GENES = 19_379


def make_batch(n_chunks: int, n_cells: int, n_genes: int) -> Batch:
    rng = np.random.default_rng(0)
    chunks = []
    for _ in range(n_chunks):
        genes = np.stack([rng.choice(N_GENES, n_genes, replace=False) for _ in range(n_cells)])
        tokens = rng.integers(0, 6, genes.shape)
        with_cls = (
            np.pad(x, ((0, 0), (1, 0)), constant_values=c) for x, c in ((genes, N_GENES), (tokens, 6))
        )
        gene_ids, bins = (torch.from_numpy(x) for x in with_cls)
        cells = CellBatch(gene_ids, bins, torch.ones_like(bins, dtype=torch.bool))
        numbers = rng.integers(2**64, size=n_cells, dtype=np.uint64)
        chunks.append(hide_expressions(cells, numbers, rng.integers(0, 2, n_cells, dtype=np.uint8)))
    return Batch(n_chunks * n_cells, [np.arange(n_cells)] * n_chunks, chunks, {})


def make_trainer(options: argparse.Namespace, contrast: str) -> Trainer:
    torch.manual_seed(0)
    encoder = Encoder(sized(options.size, N_GENES), torch.randn(N_GENES, sized(options.size, 1).dim))
    settings = PretrainSettings(precision=options.precision, token_budget=1)
    with joined() as processes:
        return Trainer(ModelRow(size=options.size, contrast=contrast), settings, encoder, processes)


def seconds(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def gradients(trainer: Trainer, batch: Batch) -> None:
    trainer.add_gradients(batch)
    trainer.optimiser.zero_grad(set_to_none=True)


def measure_time(options: argparse.Namespace) -> None:
    batch = make_batch(options.chunks, options.cells, options.genes)
    ours, plain = (make_trainer(options, contrast) for contrast in ("divide_and_conquer", "end_to_end"))

    def forward() -> None:
        with torch.no_grad():
            for chunk in batch.chunks:
                ours.encode(chunk)
                ours.encode(chunk)

    calls = {
        "forward": forward,
        "end-to-end": lambda: gradients(plain, batch),
        "divide and conquer": lambda: gradients(ours, batch),
    }
    for call in calls.values():
        call()
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(options.rounds)]
    best = {name: min(one[name] for one in rounds) for name in calls}
    forward_time, both = best["forward"], best["end-to-end"]
    spared = 1 / (2 * options.chunks)
    bound = (both + forward_time * (1 - spared)) / both
    print(
        f"batch of {batch.n_cells} cells x {options.genes} genes in chunks of {options.cells}, {options.size}"
    )
    for name, value in best.items():
        print(f"  {name:20s} {value:8.3f} s   {batch.n_cells / value:8.1f} cells/s")
    print(f"  B/F                  {(both - forward_time) / forward_time:8.3f}")
    print(
        f"  ratio                {best['divide and conquer'] / both:8.3f}   divide and conquer / end-to-end"
    )
    print(f"  bound                {(2 * forward_time + both - forward_time) / both:8.3f}   (2F+B)/(F+B)")
    print(f"  bound, one graph kept {bound:7.3f}   one of {2 * options.chunks} forwards spared")


def measure_memory(options: argparse.Namespace) -> None:
    cases = [
        ("divide_and_conquer", 1),
        ("divide_and_conquer", 16),
        ("divide_and_conquer", 64),
        ("end_to_end", 4),
    ]
    found = {}
    for contrast, n_chunks in cases:
        before, peak = found[contrast, n_chunks] = run_case(options, contrast, n_chunks)
        above = f"{peak - before:8.0f} above the idle model"
        print(f"  {contrast:20s} T = {n_chunks:3d} t   peak {peak:8.0f} MiB, {above}")
    before, peak = found["divide_and_conquer", 1]
    for n_chunks in (16, 64):
        other_before, other = found["divide_and_conquer", n_chunks]
        above = f"{(other - other_before) / (peak - before):.3f} of what the step adds"
        print(f"  T = {n_chunks:3d} t over T = t   {other / peak:.3f} of all memory, {above}")


def run_case(options: argparse.Namespace, contrast: str, n_chunks: int) -> tuple[float, float]:
    """Memory before and at the peak of a step, in MiB, of a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--case", contrast, str(n_chunks)]
    command += [f"--{name}={getattr(options, name)}" for name in ("size", "cells", "genes", "precision")]
    # glibc keeps what small blocks leave behind; so blocks of 64 KiB go back to the system at once.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    before, peak = map(float, done.stdout.split())
    return before, peak


def measure_case(options: argparse.Namespace) -> None:
    contrast, n_chunks = options.case[0], int(options.case[1])
    trainer, batch = make_trainer(options, contrast), make_batch(n_chunks, options.cells, options.genes)
    gradients(trainer, make_batch(1, options.cells, options.genes))
    if trainer.processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
        gradients(trainer, batch)
        print(before, torch.cuda.max_memory_allocated() / 2**20)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
        before = resident("VmRSS")
        gradients(trainer, batch)
        print(before, resident("VmHWM"))


def resident(name: str) -> float:
    """Size of this process in MiB, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="8m")
    parser.add_argument("--cells", type=int, default=4, help="cells of a chunk, t")
    parser.add_argument(
        "--chunks", type=int, default=8, help="chunks of the batch in the measurement of time"
    )
    parser.add_argument("--genes", type=int, default=540, help="genes of a cell")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure_case(options)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.precision}")
    measure_time(options)
    measure_memory(options)


if __name__ == "__main__":
    main()
