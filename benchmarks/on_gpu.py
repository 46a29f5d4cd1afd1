"""Everything that a GPU would do, behind one command: right or not, speed, memory, an epoch, several cards.

    python benchmarks/on_gpu.py                                     # 8 minutes at most on one H100
    python benchmarks/on_gpu.py --device cpu --small --out /tmp     # what the test runs

Prints as it goes and writes ``benchmarks/gpu/<card>.md`` after every line, so that nothing is lost when it is
interrupted. A part that fails is a line with its error; a part that no time is left for is named.
"""

import argparse
import copy
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import CellsInMemory, from_csr
from celllm.corpus.tokens import CellBatch, Tokeniser
from celllm.model import SIZES, Encoder, EncoderConfig, forward_flops
from celllm.model.compilation import compile_layers
from celllm.model.embedder import Embedder, find_device
from celllm.probes.memory import MemorySettings
from celllm.probes.memory import measure as measure_memory
from celllm.probes.peak_memory import PeakMeter
from celllm.training.finetune import FineTuned, Finetuner, FinetuneSettings
from celllm.training.throughput import peak_flops

SMALL = {"dim": 32, "depth": 2, "heads": 2, "dim_head": 16}
MEDIANS = {"Zheng68k": 540, "Baron": 1900}
LONGEST = 6000


@dataclass
class Bench:
    """What the parts share: device, sizes, time left, and the page."""

    device: torch.device
    small: bool
    page: Path
    ends: float

    @property
    def size(self) -> dict[str, int]:
        """Of the encoder: 50m, or a small one."""
        return SMALL if self.small else SIZES["50m"]

    @property
    def n_genes(self) -> int:
        """Of the vocabulary."""
        return 300 if self.small else 19_379

    def config(self, **changes: object) -> EncoderConfig:
        """Shape of the encoder."""
        return EncoderConfig(**{"n_genes": self.n_genes, **self.size, **changes})

    def say(self, line: str) -> None:
        """Print a line and add it to the page at once."""
        print(line, flush=True)
        with open(self.page, "a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    def seconds(self, step: Callable[[], object], rounds: int = 3) -> float:
        """Median time of a step after one to warm up, the device's work included."""
        times = []
        for _ in range(rounds + 1):
            self.wait()
            start = time.perf_counter()
            step()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def cells_of(bench: Bench, n: int, median: int) -> CellsInMemory:
    """Made-up cells whose numbers of expressed genes are log-normal."""
    rng = np.random.default_rng(0)
    most = min(LONGEST, bench.n_genes) - 1
    lengths = np.clip(median * np.exp(0.4 * rng.standard_normal(n)), min(200, most), most).astype(int)
    rows = np.repeat(np.arange(n), lengths)
    columns = np.concatenate([rng.choice(bench.n_genes, k, replace=False) for k in lengths])
    counts = csr_matrix(
        (rng.integers(1, 50, len(rows)).astype(np.float32), (rows, columns)), (n, bench.n_genes)
    )
    return from_csr(counts, np.arange(bench.n_genes))


def chunks_of(bench: Bench, cells: CellsInMemory, budget: int) -> list[CellBatch]:
    """The cells as batches on the device."""
    tokeniser = Tokeniser(bench.n_genes)
    buckets = length_buckets(tokeniser.lengths(cells), budget)
    return [tokeniser(cells.take(rows)).to(bench.device) for rows in buckets]


def right(bench: Bench) -> Iterator[str]:
    """Forward pass and gradient against the CPU in float64, by number type."""
    cells = cells_of(bench, 4, 100 if bench.small else 540)
    torch.manual_seed(0)
    exact = Encoder(bench.config(depth=2, dropout=0.0)).double()
    tokeniser = Tokeniser(bench.n_genes)
    batch = tokeniser(cells.take(np.arange(4)))
    wanted = _output_and_gradient(exact, batch, torch.float64)
    for dtype in (torch.float32, torch.bfloat16):
        model = copy.deepcopy(exact).float().to(bench.device)
        found = _output_and_gradient(model, batch.to(bench.device), dtype)
        errors = [float((a.double().cpu() - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]
        bound = 1e-3 if dtype == torch.float32 else 0.1
        verdict = "right" if max(errors) < bound else f"WRONG, expected below {bound}"
        yield f"{_name(dtype)}: output off by {errors[0]:.1e}, gradient by {errors[1]:.1e}: {verdict}"
    from celllm.probes.exactness import ExactnessSettings, gradient_error

    error = gradient_error(ExactnessSettings(), 5)
    yield f"divide-and-conquer in float64 (CPU): gradient off by {error:.1e}"


def _output_and_gradient(model: Encoder, batch: CellBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    enabled = dtype == torch.bfloat16
    with torch.autocast(batch.gene_ids.device.type, dtype if enabled else None, enabled=enabled):
        states = model(*batch)
    out = states[batch.mask]
    # Not the sum of squares: after the last norm that is a constant.
    direction = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).sin()
    (out * direction.to(out)).sum().backward()
    gradients = [p.grad.flatten() for p in model.layers.parameters() if p.grad is not None]
    return out.detach(), torch.cat(gradients)


def fast(bench: Bench) -> Iterator[str]:
    """Cells/s forward and backward; the share of a large product in bfloat16; performer-pytorch beside it."""
    dtype = torch.bfloat16 if bench.device.type == "cuda" else torch.float32
    peak = peak_flops(bench.device, dtype)
    yield f"a large product in {_name(dtype)}: {peak / 1e12:.1f} TFLOP/s"
    for name, median in MEDIANS.items():
        n = 8 if bench.small else 256
        cells = cells_of(bench, n, median if not bench.small else 60)
        chunks = chunks_of(bench, cells, 2048 if bench.small else 65_536)
        work = 3 * sum(forward_flops(bench.config(), 1 + int(length)) for length in cells.lengths)
        rates = {}
        for how in ("eager",) if bench.small else ("eager", "compiled"):
            encoder = Encoder(bench.config(), torch.randn(bench.n_genes, bench.size["dim"]))
            encoder.to(bench.device).train()
            if how == "compiled":
                compile_layers(encoder.layers)
            rates[how] = n / bench.seconds(lambda e=encoder, c=chunks: _pass(e, c, dtype))
            share = work / n * rates[how] / peak
            yield f"{name}, ours {how}: {rates[how]:.1f} cells/s, {share:.2f} of the product"
        exact = Encoder(bench.config(attention="softmax"), torch.randn(bench.n_genes, bench.size["dim"]))
        exact.to(bench.device).train()
        rate = n / bench.seconds(lambda e=exact, c=chunks: _pass(e, c, dtype), 1)
        yield f"{name}, exact attention (fused kernels, same buckets): {rate:.1f} cells/s"
        for label, width in (
            ("6,000", min(LONGEST, bench.n_genes)),
            ("the longest", 1 + int(cells.lengths.max())),
        ):
            rate = _performer(bench, cells, width, dtype)
            ratio = max(rates.values()) / rate
            yield f"{name}, performer-pytorch padded to {label}: {rate:.2f} cells/s, ours {ratio:.1f} x"


def _pass(model: nn.Module, chunks: list[CellBatch], dtype: torch.dtype) -> None:
    for batch in chunks:
        enabled = dtype == torch.bfloat16
        with torch.autocast(batch.gene_ids.device.type, dtype if enabled else None, enabled=enabled):
            states = model(*batch)
        states.float().square().mean().backward()


def _performer(bench: Bench, cells: CellsInMemory, width: int, dtype: torch.dtype) -> float:
    from performer_pytorch import Performer

    c = bench.config()
    sizes = {"dim": c.dim, "depth": c.depth, "heads": c.heads, "dim_head": c.dim_head}
    model = Performer(**sizes, qkv_bias=False, ff_dropout=0.1, attn_dropout=0.1).to(bench.device).train()
    model.fix_projection_matrices_()
    n = 2
    mask = torch.arange(width) < torch.from_numpy(1 + cells.lengths[:n])[:, None]
    x, mask = torch.randn(n, width, c.dim, device=bench.device), mask.to(bench.device)

    def step() -> None:
        enabled = dtype == torch.bfloat16
        with torch.autocast(bench.device.type, dtype if enabled else None, enabled=enabled):
            states = model(x, mask=mask)
        states.float().square().mean().backward()

    return n / bench.seconds(step, 1)


def memory(bench: Bench) -> Iterator[str]:
    """What accounting on the meta device predicts, beside what the card's allocator says."""
    settings = MemorySettings(
        size=bench.size, n_genes=bench.n_genes, attention=("favor",), tracker="meta", n_cells=64,
        budget_gib=0.25 if bench.small else 40.0,
    )  # fmt: skip
    for contrast, fit in measure_memory(settings, "favor").items():
        length = fit.max_length(settings.budget_gib * 2**30, settings.n_cells)
        batch = f"{settings.n_cells} cells in {settings.budget_gib} GiB"
        yield f"{contrast}: {length:,} genes predicted for {batch}"
    if bench.device.type != "cuda":
        yield "no CUDA device: nothing to hold the prediction to"
        return
    meters = PeakMeter(bench.config(), "meta"), PeakMeter(bench.config(), "cuda")
    for n, length in ((8, 500), (8, 2000), (32, 1000)):
        for contrast in ("end_to_end", "divide_and_conquer"):
            predicted, measured = (meter.peak(contrast, n, length) for meter in meters)
            yield (
                f"{contrast}, {n} x {length}: predicted {predicted / 2**30:.2f} GiB, "
                f"measured {measured / 2**30:.2f} ({predicted / measured - 1:+.0%})"
            )


def epoch(bench: Bench) -> Iterator[str]:
    """One fine-tuning epoch, the frozen states computed once before it."""
    n = 64 if bench.small else 4000
    cells = cells_of(bench, n, 60 if bench.small else 540)
    torch.manual_seed(0)
    encoder = Encoder(bench.config(), torch.randn(bench.n_genes, bench.size["dim"])).to(bench.device)
    settings = FinetuneSettings(epochs=1)
    tuner = Finetuner(
        Embedder(encoder, Tokeniser(bench.n_genes)), cells, np.arange(bench.n_genes), 5, settings
    )
    rows, targets = np.arange(n), np.arange(n) % 5
    start = time.perf_counter()
    tuner.states.take(rows[:1])
    bench.wait()
    yield f"frozen layers over {n} cells: {time.perf_counter() - start:.2f} s"
    model = FineTuned(encoder, tuner.n_frozen, tuner.genes, 5, settings).to(bench.device)
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    weights, order = torch.ones(5, device=bench.device), np.random.default_rng(0)
    took = bench.seconds(lambda: tuner.epoch(model, optimiser, (rows, targets), weights, order), 1)
    yield f"an epoch over {n} cells: {took:.2f} s, {n / took:.0f} cells/s"


def several(bench: Bench) -> Iterator[str]:
    """From one GPU to all of them."""
    n = torch.cuda.device_count() if bench.device.type == "cuda" else 0
    if n < 2:
        yield f"{n} CUDA device(s): nothing to compare"
        return
    test = ["-m", "pytest", "-q", "tests/training/test_distributed.py"]
    done = subprocess.run([sys.executable, *test], capture_output=True, text=True)
    yield f"tests of several processes: {done.stdout.strip().splitlines()[-1]}"


PARTS = {"right": right, "fast": fast, "memory": memory, "epoch": epoch, "several": several}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="sizes of a test")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins after so many")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "gpu")
    chosen = parser.parse_args(arguments)
    device = find_device(chosen.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    chosen.out.mkdir(parents=True, exist_ok=True)
    page = chosen.out / f"{re.sub('[^A-Za-z0-9]+', '-', card).strip('-').lower()}.md"
    page.write_text("")
    bench = Bench(device, chosen.small, page, time.monotonic() + 60 * chosen.minutes)
    bench.say(f"# {card}, torch {torch.__version__}{', small sizes' if chosen.small else ''}")
    failed = False
    for name in chosen.parts:
        bench.say(f"\n## {name}: {(PARTS[name].__doc__ or '').splitlines()[0]}\n")
        if time.monotonic() > bench.ends:
            bench.say("- no time left")
            continue
        start = time.monotonic()
        try:
            for line in PARTS[name](bench):
                bench.say(f"- {line}")
                failed |= "WRONG" in line
        except Exception as error:  # noqa: BLE001 - the other parts are still worth having
            traceback.print_exc()
            bench.say(f"- FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            failed = True
        bench.say(f"- ({time.monotonic() - start:.0f} s)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
