"""What divide-and-conquer costs and saves: time against end-to-end and its bound, peak memory against t.

    python benchmarks/divide_and_conquer.py            (8m encoder, 540 genes, a few minutes on 2 cores)
    python benchmarks/divide_and_conquer.py --size 50m --cells 4 --genes 1900 --precision bfloat16

Time is measured in alternating rounds within one process, memory in a process for each case. Both are those
of whole pre-training gradients: masked expressions, tumour/normal, contrast. With F, the forward passes of
both views without graphs, and F + B, the end-to-end gradient, the bound is (2F + B) / (F + B); each graph
that is kept spares its share of F. Figures are medians over the rounds, ratios of each round. On a busy
machine take ``OMP_NUM_THREADS=1`` and ``--processor-time``, which leaves out waiting for a core. Memory on a
CPU is the largest resident size within the second of two steps (Linux).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from celllm.corpus.tokens import CellBatch
from celllm.model.encoder import Encoder
from celllm.model.settings import sized
from celllm.training.distributed import joined
from celllm.training.masked_batches import Batch
from celllm.training.objectives import hide_expressions
from celllm.training.settings import ModelRow, PretrainSettings
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


def make_trainer(options: argparse.Namespace, contrast: str, n_graphs: int = 1) -> Trainer:
    torch.manual_seed(0)
    encoder = Encoder(sized(options.size, N_GENES), torch.randn(N_GENES, sized(options.size, 1).dim))
    settings = PretrainSettings(
        precision=options.precision, token_budget=n_graphs * options.cells * (options.genes + 1)
    )
    with joined() as processes:
        return Trainer(ModelRow(size=options.size, contrast=contrast), settings, encoder, processes)


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def gradients(trainer: Trainer, batch: Batch) -> None:
    trainer.add_gradients(batch)
    trainer.optimiser.zero_grad(set_to_none=True)


def measure_time(options: argparse.Namespace) -> None:
    batch = make_batch(options.chunks, options.cells, options.genes)
    plain = make_trainer(options, "end_to_end")
    kept = [1, options.chunks]  # graphs: one, and those of half of the passes
    ours = {n: make_trainer(options, "divide_and_conquer", n) for n in kept}

    def forward() -> None:
        with torch.no_grad():
            for chunk in batch.chunks:
                plain.encode(chunk)
                plain.encode(chunk)

    calls = {"forward": forward, "end-to-end": lambda: gradients(plain, batch)}
    calls |= {graphs(n): partial(gradients, trainer, batch) for n, trainer in ours.items()}
    clock = time.process_time if options.processor_time else time.perf_counter
    for call in calls.values():
        call()
    rounds = []
    for _ in range(options.rounds):
        rounds.append({name: seconds(call, clock) for name, call in calls.items()})
        told = ", ".join(f"{name} {value:.3f} s" for name, value in rounds[-1].items())
        print(f"  {told}", file=sys.stderr, flush=True)
    print(
        f"batch of {batch.n_cells} cells x {options.genes} genes in chunks of {options.cells}, {options.size}"
    )
    report_time(rounds, kept, 2 * options.chunks)


def graphs(n_kept: int) -> str:
    return f"divide and conquer, graphs kept: {n_kept}"


def report_time(rounds: list[dict[str, float]], kept: list[int], n_passes: int) -> None:
    def told(what: str, values: list[float], note: str = "") -> None:
        spread = f"({min(values):.3f} to {max(values):.3f})"
        print(f"  {what:38s} {statistics.median(values):8.3f} {spread}  {note}")

    for name in rounds[0]:
        told(name, [one[name] for one in rounds], "s")
    forward, both = ([one[name] for one in rounds] for name in ("forward", "end-to-end"))
    told("F", forward, "s")
    told("B", [e - f for f, e in zip(forward, both, strict=True)], "s, end-to-end less F")
    told("bound", [1 + f / e for f, e in zip(forward, both, strict=True)], "(2F+B)/(F+B)")
    for n in kept:
        ratios = [one[graphs(n)] / one["end-to-end"] for one in rounds]
        bounds = [1 + f / e * (1 - n / n_passes) for f, e in zip(forward, both, strict=True)]
        told(
            f"ratio, graphs kept: {n} of {n_passes}",
            ratios,
            f"bound with these {statistics.median(bounds):.3f}",
        )


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
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with one thread")
    parser.add_argument("--part", choices=["time", "memory", "both"], default="both")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure_case(options)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.precision}")
    if options.part != "memory":
        measure_time(options)
    if options.part != "time":
        measure_memory(options)


if __name__ == "__main__":
    main()
