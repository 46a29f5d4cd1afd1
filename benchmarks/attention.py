"""Forward and backward pass of the encoder beside performer-pytorch's, same sizes, same cells, in turns.

    python benchmarks/attention.py --median 540           # Zheng68k's gene counts
    python benchmarks/attention.py --median 1900          # Baron's

Prints cells/s of each way, and per round-by-round ratio the median and the range:

- padded to 6,000, float32: performer-pytorch as the released code feeds it (few cells: it is slow)
- padded to the longest of the batch, float32 and bfloat16: performer-pytorch
- this package: length-bucketed chunks, float32 and bfloat16

and the share of the machine: FLOP/s of the encoder over those of a large matrix product in the same type.
Every way runs the same number of layers (``--depth``; the cost is proportional to it). Other work on the
machine spoils all of it.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from celllm.data.batches import length_buckets
from celllm.model import Encoder, EncoderConfig, forward_flops

LONGEST = 6000
N_GENES = 19_379
Step = Callable[[], None]


def gene_counts(n_cells: int, median: int) -> np.ndarray:
    """Made-up numbers of expressed genes: log-normal, half of them within 30 % of the median."""
    rng = np.random.default_rng(0)
    return np.clip(median * np.exp(0.4 * rng.standard_normal(n_cells)), 200, LONGEST - 1).astype(int)


def autocast(half: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=half)


def ours(config: EncoderConfig, lengths: np.ndarray, budget: int, half: bool) -> Step:
    encoder = Encoder(config, torch.randn(config.n_genes, config.dim)).train()
    chunks = []
    for rows in length_buckets(lengths, budget):
        width = 1 + lengths[rows].max()
        mask = torch.arange(width) < torch.from_numpy(1 + lengths[rows])[:, None]
        chunks.append((torch.randint(N_GENES, mask.shape), torch.randint(6, mask.shape), mask))

    def step() -> None:
        for gene_ids, bins, mask in chunks:
            with autocast(half):
                states = encoder(gene_ids, bins, mask)
            states.float().square().mean().backward()

    return step


def theirs(config: EncoderConfig, lengths: np.ndarray, width: int, at_once: int, half: bool) -> Step:
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
            with autocast(half):
                states = model(x.requires_grad_(), mask=real)
            states.float().square().mean().backward()

    return step


def seconds(step: Step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_flops(half: bool) -> float:
    """FLOP/s of a large matrix product."""
    n = 4096
    a = torch.randn(n, n, dtype=torch.bfloat16 if half else torch.float32)
    return 2 * n**3 / min(seconds(lambda: torch.mm(a, a)) for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--median", type=int, default=540, help="median number of expressed genes")
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--budget", type=int, default=4096, help="tokens of a chunk")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    config = EncoderConfig(n_genes=N_GENES, depth=args.depth)
    lengths = gene_counts(args.cells, args.median)
    longest = 1 + int(lengths.max())
    few = lengths[:1]
    steps: dict[str, tuple[Step, int]] = {
        "performer-pytorch, padded to 6000, float32": (theirs(config, few, LONGEST, 1, False), 1),
        "performer-pytorch, padded to longest, float32": (
            theirs(config, lengths, longest, 8, False),
            args.cells,
        ),
        "performer-pytorch, padded to longest, bfloat16": (
            theirs(config, lengths, longest, 8, True),
            args.cells,
        ),
        "ours, float32": (ours(config, lengths, args.budget, False), args.cells),
        "ours, bfloat16": (ours(config, lengths, args.budget, True), args.cells),
    }
    rates: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[bool, list[float]] = {False: [], True: []}
    for step, _ in steps.values():
        step()
    for _ in range(args.rounds):
        for name, (step, n_cells) in steps.items():
            rates[name].append(n_cells / seconds(step))
        for half, values in peaks.items():
            values.append(peak_flops(half))
    report(config, lengths, rates, peaks)


def report(
    config: EncoderConfig, lengths: np.ndarray, rates: dict[str, list[float]], peaks: dict[bool, list[float]]
) -> None:
    print(
        f"{len(lengths)} cells, median {int(np.median(lengths))} genes, {config.depth} layers of {config.dim}"
    )
    for name, values in rates.items():
        print(f"  {statistics.median(values):9.3f} cells/s  {name}")
    full, single, half = (name for name in rates if name.startswith("performer"))
    for top, below, wanted in (
        ("ours, bfloat16", full, "30 at median 540, 10 at 1900"),
        ("ours, bfloat16", single, "4"),
        ("ours, float32", single, "1.3"),
        ("ours, bfloat16", half, "1.3"),
    ):
        ratios = [a / b for a, b in zip(rates[top], rates[below], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  {statistics.median(ratios):6.2f} x ({spread})  {top} / {below}; wanted: {wanted}")
    work = 3 * float(np.mean([forward_flops(config, 1 + int(n)) for n in lengths]))
    for name, flops in (("float32", peaks[False]), ("bfloat16", peaks[True])):
        shares = [rate * work / peak for rate, peak in zip(rates[f"ours, {name}"], flops, strict=True)]
        print(f"  {statistics.median(shares):6.2f} of a large matrix product in {name} (0.45 wanted)")


if __name__ == "__main__":
    main()
