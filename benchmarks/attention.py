"""Forward and backward pass of the encoder beside performer-pytorch's, same sizes, same cells, in turns.

    python benchmarks/attention.py --median 540           # Zheng68k's gene counts
    python benchmarks/attention.py --median 1900          # Baron's

Prints cells/s of each way, and per round-by-round ratio the median and the range:

- padded to 6,000, float32: performer-pytorch as the released code feeds it (few cells: it is slow)
- padded to the longest of the batch: performer-pytorch
- this package: length-bucketed chunks

and the share of the machine: FLOP/s of the encoder over those of a large matrix product in the same type.
Number types are float32 and, where the hardware has it, bfloat16 (on a processor without it a product takes a
hundred times as long); the default of this package is what ``precision: auto`` takes. Every way runs the same
number of layers (``--depth``; the cost is proportional to it). Other work on the machine spoils all of it; on
one that is busy take ``OMP_NUM_THREADS=1`` and ``--processor-time``, which leaves out waiting for a core.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from celllm.corpus.batches import length_buckets
from celllm.model.embedder import default_budget
from celllm.model.encoder import Encoder, forward_flops
from celllm.model.settings import EncoderConfig
from celllm.training.trainer import resolve_precision

LONGEST = 6000
N_GENES = 19_379
CPU = torch.device("cpu")
FULL = "performer-pytorch, padded to 6000, float32"
Step = Callable[[], None]
clock = time.perf_counter


def gene_counts(n_cells: int, median: int) -> np.ndarray:
    """Made-up numbers of expressed genes: log-normal, half of them within 30 % of the median."""
    rng = np.random.default_rng(0)
    return np.clip(median * np.exp(0.4 * rng.standard_normal(n_cells)), 200, LONGEST - 1).astype(int)


def autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def in_words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def ours(config: EncoderConfig, lengths: np.ndarray, budget: int, dtype: torch.dtype) -> Step:
    encoder = Encoder(config, torch.randn(config.n_genes, config.dim)).train()
    chunks = []
    for rows in length_buckets(lengths, budget):
        width = 1 + lengths[rows].max()
        mask = torch.arange(width) < torch.from_numpy(1 + lengths[rows])[:, None]
        chunks.append((torch.randint(N_GENES, mask.shape), torch.randint(6, mask.shape), mask))

    def step() -> None:
        for gene_ids, bins, mask in chunks:
            with autocast(dtype):
                states = encoder(gene_ids, bins, mask)
            states.float().square().mean().backward()

    return step


def theirs(config: EncoderConfig, lengths: np.ndarray, width: int, at_once: int, dtype: torch.dtype) -> Step:
    """performer-pytorch on ready-made embeddings, every cell padded to ``width``."""
    from performer_pytorch import Performer

    c = config
    sizes = {"dim": c.dim, "depth": c.depth, "heads": c.heads, "dim_head": c.dim_head}
    model = Performer(**sizes, qkv_bias=False, ff_dropout=c.dropout, attn_dropout=c.dropout).train()
    model.fix_projection_matrices_()
    mask = torch.arange(width) < torch.from_numpy(1 + lengths)[:, None]
    chunks: list[tuple[Tensor, Tensor]] = [
        (torch.randn(len(m), width, c.dim), m) for m in mask.split(at_once)
    ]

    def step() -> None:
        for x, real in chunks:
            with autocast(dtype):
                states = model(x.requires_grad_(), mask=real)
            states.float().square().mean().backward()

    return step


def seconds(step: Step) -> float:
    start = clock()
    step()
    return clock() - start


def peak_flops(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    n = 2048
    a = torch.randn(n, n).to(dtype)
    return 2 * n**3 / min(seconds(lambda: torch.mm(a, a)) for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--median", type=int, default=540, help="median number of expressed genes")
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--budget", type=int, default=default_budget(CPU), help="tokens of a chunk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with one thread")
    args = parser.parse_args()
    if args.processor_time:
        global clock
        clock = time.process_time
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    config = EncoderConfig(n_genes=N_GENES, depth=args.depth)
    lengths = gene_counts(args.cells, args.median)
    rates, peaks = measure(ways(config, lengths, args.budget), args.rounds)
    report(config, lengths, rates, peaks)


def ways(config: EncoderConfig, lengths: np.ndarray, budget: int) -> dict[str, tuple[Step, int]]:
    """Each way by name, and the number of cells that a step of it has."""
    longest, single, few = 1 + int(lengths.max()), torch.float32, lengths[:1]
    steps: dict[str, tuple[Step, int]] = {FULL: (theirs(config, few, LONGEST, 1, single), len(few))}
    for dtype in number_types():
        name = in_words(dtype)
        steps[f"performer-pytorch, padded to longest, {name}"] = (
            theirs(config, lengths, longest, 8, dtype),
            len(lengths),
        )
        steps[f"ours, {name}"] = ours(config, lengths, budget, dtype), len(lengths)
    return steps


def number_types() -> list[torch.dtype]:
    """float32, and the default of this package where that is another."""
    return list(dict.fromkeys([torch.float32, resolve_precision("auto", CPU)]))


def measure(
    steps: dict[str, tuple[Step, int]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Cells/s of every way and FLOP/s of a large product in every number type, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[str, list[float]] = {in_words(dtype): [] for dtype in number_types()}
    for _ in range(rounds):  # medians count, so that the first round warms up
        for name, (step, n_cells) in steps.items():
            rates[name].append(n_cells / seconds(step))
            print(f"  {rates[name][-1]:9.3f} cells/s  {name}", file=sys.stderr, flush=True)
        for dtype in number_types():
            peaks[in_words(dtype)].append(peak_flops(dtype))
    return rates, peaks


def report(
    config: EncoderConfig,
    lengths: np.ndarray,
    rates: dict[str, list[float]],
    peaks: dict[str, list[float]],
) -> None:
    print(
        f"{len(lengths)} cells, median {int(np.median(lengths))} genes, "
        f"{config.depth} layers of {config.dim}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    for name, values in rates.items():
        print(f"  {statistics.median(values):9.3f} cells/s  {name}")
    default = f"ours, {in_words(number_types()[-1])}"
    padded = "performer-pytorch, padded to longest"
    compared = {
        (default, FULL): "no figure",
        ("ours, float32", FULL): "16 at median 540, 6 at 1900",
        (default, f"{padded}, float32"): "2.5",
        **{(f"ours, {name}", f"{padded}, {name}"): "2.5" for name in peaks},
    }
    for (top, below), wanted in compared.items():
        ratios = [a / b for a, b in zip(rates[top], rates[below], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  {statistics.median(ratios):6.2f} x ({spread})  {top} / {below}; wanted: {wanted}")
    work = 3 * float(np.mean([forward_flops(config, 1 + int(n)) for n in lengths]))
    for name, flops in peaks.items():
        shares = [rate * work / peak for rate, peak in zip(rates[f"ours, {name}"], flops, strict=True)]
        product = f"{statistics.median(flops) / 1e9:.0f} GFLOP/s"
        print(f"  {statistics.median(shares):6.2f} of a large product in {name}, {product} (wanted: 0.65)")


if __name__ == "__main__":
    main()
