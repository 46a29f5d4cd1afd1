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
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import CellsInMemory, from_csr
from celllm.corpus.tokens import CellBatch, Tokeniser
from celllm.graph.drugs import Drugs
from celllm.graph.molecules import N_FEATURES, Molecule
from celllm.methods.celllm_response import gin_encoder
from celllm.model.compilation import compile_layers
from celllm.model.embedder import Embedder, find_device
from celllm.model.encoder import Encoder, forward_flops
from celllm.model.settings import SIZES, EncoderConfig
from celllm.probes.memory import MemorySettings
from celllm.probes.memory import measure as measure_memory
from celllm.probes.peak_memory import PeakMeter
from celllm.training.distributed import Processes
from celllm.training.finetune import FineTuned, Finetuner, FinetuneSettings
from celllm.training.finetune_response import ResponseSettings, ResponseTuner
from celllm.training.masked_batches import Batch
from celllm.training.objectives import hide_expressions
from celllm.training.regression import KnownPairs, run_epoch
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.throughput import peak_flops
from celllm.training.trainer import Trainer

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
    for contrast in ("divide_and_conquer", "moco"):
        at_cpu, here = (
            _step_of_pretraining(bench, contrast, device) for device in (torch.device("cpu"), bench.device)
        )
        yield _verdict(f"{contrast}, a step in float32 against the CPU's: gradient", here, at_cpu, 1e-2)
    whole = _step_of_pretraining(bench, "end_to_end", bench.device)
    divided = _step_of_pretraining(bench, "divide_and_conquer", bench.device)
    yield _verdict("divide-and-conquer against end-to-end on this device: gradient", divided, whole, 1e-3)
    at_cpu, here = (_step_of_finetuning(bench, device) for device in (torch.device("cpu"), bench.device))
    yield _verdict("a fine-tuning step in float32 against the CPU's: gradient", here, at_cpu, 1e-2)
    if bench.small:
        yield "killed and resumed: not in small sizes, tests/training/test_resume.py is a test of its own"
    else:
        yield f"killed and resumed: {_tests('tests/training/test_resume.py')}"


def _verdict(what: str, found: Tensor, wanted: Tensor, bound: float) -> str:
    error = float((found - wanted).norm() / wanted.norm())
    return f"{what} off by {error:.1e}: {'right' if error < bound else f'WRONG, expected below {bound}'}"


def _tests(path: str) -> str:
    """Last line of some of the tests, which take the GPU where there is one; WRONG if they fail."""
    command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parents[1] / path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    return f"{done.stdout.strip().splitlines()[-1]}{', WRONG' if done.returncode else ''}"


def _trainer(bench: Bench, contrast: str, device: torch.device, budget: int, **changes: object) -> Trainer:
    """Of an encoder with the same first weights on every device."""
    torch.manual_seed(0)
    encoder = Encoder(bench.config(**changes), torch.randn(bench.n_genes, bench.size["dim"]))
    precision = "float32" if "dropout" in changes else "auto"
    row, settings = (
        ModelRow(size="", contrast=contrast),
        PretrainSettings(token_budget=budget, precision=precision),
    )
    processes = Processes(0, 1, device)
    return Trainer(row, settings, encoder.to(device), processes)


def _batch(bench: Bench, n_chunks: int, at_once: int, n_genes: int, device: torch.device) -> Batch:
    """Made-up cells of one length with hidden expressions, in chunks."""
    rng = np.random.default_rng(0)
    chunks = []
    for _ in range(n_chunks):
        genes = np.stack([rng.choice(bench.n_genes, n_genes, replace=False) for _ in range(at_once)])
        bins = rng.integers(0, 6, genes.shape)
        gene_ids, tokens = (
            torch.from_numpy(np.pad(x, ((0, 0), (1, 0)), constant_values=first))
            for x, first in ((genes, bench.n_genes), (bins, 6))
        )
        cells = CellBatch(gene_ids, tokens, torch.ones_like(tokens, dtype=torch.bool))
        numbers, tumour = rng.integers(2**64, size=at_once, dtype=np.uint64), rng.integers(0, 2, at_once)
        chunks.append(hide_expressions(cells, numbers, tumour.astype(np.uint8)).to(device))
    return Batch(n_chunks * at_once, [np.arange(at_once)] * n_chunks, chunks, {})


def _step_of_pretraining(bench: Bench, contrast: str, device: torch.device) -> Tensor:
    """Gradient of a batch of four chunks, without dropout, whose random numbers differ between devices."""
    trainer = _trainer(bench, contrast, device, budget=1, depth=2, dropout=0.0)
    trainer.gradients(_batch(bench, 4, 2, 100 if bench.small else 540, device), 0)
    return torch.cat([p.grad.flatten().cpu() for p in trainer.trained if p.grad is not None])


def _step_of_finetuning(bench: Bench, device: torch.device) -> Tensor:
    """Gradient of the trained layers from 16 cells."""
    torch.manual_seed(0)
    encoder = Encoder(bench.config(depth=2, dropout=0.0), torch.randn(bench.n_genes, bench.size["dim"]))
    settings = FinetuneSettings(dropout=0.0, precision="float32")
    genes, cells = np.arange(bench.n_genes), cells_of(bench, 16, 60 if bench.small else 540)
    tuner = Finetuner(Embedder(encoder.to(device), Tokeniser(bench.n_genes)), cells, genes, 4, settings)
    torch.manual_seed(1)
    model = FineTuned(encoder.cpu(), tuner.n_frozen, genes, 4, settings).to(device)
    encoder.to(device)
    tuner.backward(model, np.arange(16), np.arange(16) % 4, torch.ones(4, device=device))
    return torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])


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
    yield from _cost_of_dividing(bench)


def _cost_of_dividing(bench: Bench) -> Iterator[str]:
    """Divide-and-conquer over end-to-end, beside its bound (2F+B)/(F+B)."""
    n_chunks, at_once, length = (4, 2, 60) if bench.small else (8, 16, 540)
    batch = _batch(bench, n_chunks, at_once, length, bench.device)
    whole, divided = (
        _trainer(bench, contrast, bench.device, budget=1) for contrast in ("end_to_end", "divide_and_conquer")
    )

    def forward() -> None:
        with torch.no_grad():
            for chunk in [*batch.chunks, *batch.chunks]:
                whole.encode(chunk)

    f = bench.seconds(forward)
    both, ours = (bench.seconds(lambda t=trainer: t.gradients(batch, 0)) for trainer in (whole, divided))
    yield (
        f"divide-and-conquer over end-to-end, {n_chunks} chunks of {at_once}: {ours / both:.2f}, "
        f"bound {1 + f / both:.2f}"
    )


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
    """One fine-tuning epoch, the frozen states computed once before it; one of Table 3."""
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
    yield from _epoch_of_table_3(bench, encoder)


def _epoch_of_table_3(bench: Bench, encoder: Encoder) -> Iterator[str]:
    """Random pairs as in Table F.1, and pairs of few lines as config/corrected.yaml has them."""
    n_lines, n_drugs, n_pairs = (12, 6, 60) if bench.small else (561, 223, 12_800)
    rng = np.random.default_rng(0)
    lines = cells_of(bench, n_lines, 60 if bench.small else 5999)
    numbers = (rng.integers(n, size=n_pairs) for n in (n_lines, n_drugs))
    pairs = KnownPairs(*numbers, rng.normal(size=n_pairs))
    chain = np.array([[*range(19), *range(1, 20)], [*range(1, 20), *range(19)]])  # bonds of 20 atoms in a row
    drugs = Drugs([Molecule(rng.random((20, N_FEATURES), np.float32), chain) for _ in range(n_drugs)])
    random_pairs = ResponseSettings(line_bins="normalised")
    few_lines = random_pairs.changed(batch_size=128, lines_per_batch=8)
    for label, settings in (("16 random pairs", random_pairs), ("128 pairs of 8 lines", few_lines)):
        drug_encoder = partial(gin_encoder, drugs, settings)
        embedder = Embedder(encoder, Tokeniser(bench.n_genes))
        tuner = ResponseTuner(embedder, lines, np.arange(bench.n_genes), drug_encoder, settings)
        tuner.states.take(np.arange(1))
        model = tuner.model()
        optimiser = torch.optim.Adam(model.parameters(), 1e-4)
        order = np.random.default_rng(0)
        took = bench.seconds(partial(run_epoch, model, optimiser, pairs, settings, order), 1)
        yield f"Table 3, {label} a batch, an epoch over {n_pairs:,} pairs: {took:.2f} s"


def several(bench: Bench) -> Iterator[str]:
    """From one GPU to all of them."""
    n = torch.cuda.device_count() if bench.device.type == "cuda" else 0
    if n < 2:
        yield f"{n} CUDA device(s): nothing to compare"
        return
    yield f"tests of several processes: {_tests('tests/training/test_distributed.py')}"


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
