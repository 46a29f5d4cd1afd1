"""Embedding of cells: speed beside performer-pytorch with the same weights, memory, time of the import.

    python benchmarks/embedding.py --part speed      # cells/s, Zheng68k's gene counts
    python benchmarks/embedding.py --part memory     # peak on 20,000 and on 200,000 backed cells
    python benchmarks/embedding.py --part import     # `import celllm`, in seconds

Speed, in seconds of the processor: the encoder's vectors of the same cells from the same weights, three ways,
in turns: performer-pytorch padded to 6,000 as the released code feeds it, the same padded to the longest cell
of the batch, and `Embedder.embed_cells`. The last two are compared on the longest cell, which neither pads.
Memory: a small encoder, so that it is the reading that is measured; of the process, less the vectors.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

LONGEST = 6000
GENES_IN_FILE = 2000
MIB = 2**20


def speed(median: int, n_cells: int, depth: int, rounds: int, n_genes: int, longest: int) -> None:
    """Cells/s of the three ways: median and range over the rounds."""
    import torch
    from attention import gene_counts

    from celllm.corpus.expressed import Cells, tokens_of
    from celllm.corpus.tokens import Tokeniser
    from celllm.model.embedder import Embedder, default_budget
    from celllm.model.encoder import Encoder
    from celllm.model.settings import EncoderConfig

    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(n_genes=n_genes, depth=depth), torch.randn(n_genes, 512)).eval()
    embedder = Embedder(encoder, Tokeniser(n_genes, max_length=longest))
    lengths = np.minimum(gene_counts(n_cells, median), longest - 1)
    cells: Cells = tokens_of(_counts(lengths, n_genes))
    released = _performer(encoder)
    batch = embedder.tokeniser(cells.take(np.arange(n_cells)))

    @torch.no_grad()
    def padded(width: int) -> torch.Tensor:
        mask = torch.nn.functional.pad(batch.mask, (0, width - batch.mask.shape[1]))
        x = torch.nn.functional.pad(
            encoder.embed(batch.gene_ids, batch.bins), (0, 0, 0, width - batch.mask.shape[1])
        )
        # A few cells at a time, as memory asks for it.
        parts = [released(x[i : i + 4], mask=mask[i : i + 4]) for i in range(0, n_cells, 4)]
        return encoder.norm(torch.cat(parts))

    ways: dict[str, Callable[[], object]] = {
        f"performer-pytorch, padded to {longest}": lambda: padded(longest),
        "performer-pytorch, padded to the longest": lambda: padded(batch.mask.shape[1]),
        "this package": lambda: embedder.embed_cells(cells, default_budget(embedder.device)),
    }
    cell = int(lengths.argmax())
    theirs = padded(batch.mask.shape[1])[cell, 0]
    ours = embedder.embed_cells(cells, default_budget(embedder.device))["cls"][cell]
    off = float((theirs - ours).norm() / theirs.norm())
    print(f"the longest cell, {lengths[cell]} genes: the same vector of [CLS] to {off:.1e}")
    seconds = {name: [_timed(way) for _ in range(rounds)] for name, way in ways.items()}
    for name, times in seconds.items():
        rates = sorted(n_cells / one for one in times)
        print(f"{name}: {statistics.median(rates):.2f} cells/s ({rates[0]:.2f} to {rates[-1]:.2f})")
    base, *others = reversed(seconds)
    for name in others:
        print(f"ours over {name}: {statistics.median(seconds[name]) / statistics.median(seconds[base]):.1f}x")


def _timed(way: Callable[[], object]) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


def _counts(lengths: np.ndarray, n_genes: int):  # type: ignore[no-untyped-def]
    """Made-up counts, cells x genes, with these numbers of expressed genes."""
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    genes = np.concatenate([np.sort(rng.choice(n_genes, n, replace=False)) for n in lengths])
    values = rng.geometric(0.4, size=lengths.sum()).astype(np.float32)
    return csr_matrix((values, genes, np.concatenate([[0], np.cumsum(lengths)])), (len(lengths), n_genes))


def _performer(encoder):  # type: ignore[no-untyped-def]
    """performer-pytorch's layers with the weights of an encoder."""
    from performer_pytorch import Performer

    c = encoder.config
    shape = {"dim": c.dim, "depth": c.depth, "heads": c.heads, "dim_head": c.dim_head}
    made = Performer(**shape, nb_features=c.features, qkv_bias=False, auto_check_redraw=False).eval()
    for (attention, feed_forward), ours in zip(made.net.layers, encoder.layers, strict=True):
        attention.norm.load_state_dict(ours.attention_norm.state_dict())
        q, k, v = ours.attention.to_qkv.weight.data.chunk(3)
        for name, weight in (("to_q", q), ("to_k", k), ("to_v", v)):
            getattr(attention.fn, name).weight.data.copy_(weight)
        attention.fn.to_out.load_state_dict(ours.attention.to_out.state_dict())
        attention.fn.fast_attention.projection_matrix.copy_(ours.attention.projection)
        feed_forward.norm.load_state_dict(ours.ff_norm.state_dict())
        for name in ("w1", "w2"):
            getattr(feed_forward.fn.fn, name).load_state_dict(getattr(ours.ff, name).state_dict())
    return made


def memory(sizes: list[int], n_genes: int = 100) -> None:
    """Peak memory of embedding files of these numbers of cells, each in a process of its own."""
    import torch

    from celllm.cells.genes import Vocabulary
    from celllm.corpus.tokens import Tokeniser
    from celllm.model.embedder import Embedder
    from celllm.model.encoder import Encoder
    from celllm.model.settings import EncoderConfig

    torch.manual_seed(0)
    vocabulary = Vocabulary(tuple(f"GENE{i}" for i in range(GENES_IN_FILE)), ("",) * GENES_IN_FILE)
    small = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
    encoder = Encoder(EncoderConfig(n_genes=GENES_IN_FILE, **small), torch.randn(GENES_IN_FILE, 16))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary.write(folder / "genes.tsv")
        meta = {"genes_sha256": vocabulary.sha256}
        Embedder(encoder, Tokeniser(GENES_IN_FILE), meta).write(folder / "model.safetensors")
        for n_cells in sizes:
            _write(folder / "cells.h5ad", n_cells, n_genes, vocabulary.symbols)
            command = [sys.executable, __file__, "--child", str(folder)]
            start = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = int(done.stdout.split()[-1]) / 1024 - n_cells * 16 * 4 / MIB
            seconds, size = time.monotonic() - start, (folder / "cells.h5ad").stat().st_size / MIB
            rate = n_cells / seconds
            print(f"{n_cells} cells, a file of {size:.0f} MiB: peak {peak:.0f} MiB, {rate:.0f} cells/s")


def _write(path: Path, n_cells: int, n_genes: int, symbols: tuple[str, ...]) -> None:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    starts = rng.integers(GENES_IN_FILE // n_genes, size=(n_cells, 1))
    genes = (starts + np.arange(n_genes) * (GENES_IN_FILE // n_genes)).astype(np.int32)
    values = rng.geometric(0.4, size=genes.size).astype(np.float32)
    bounds = np.arange(0, genes.size + 1, n_genes)
    x = csr_matrix((values, genes.ravel(), bounds), (n_cells, GENES_IN_FILE))
    obs = pd.DataFrame(index=np.arange(n_cells).astype(str))
    AnnData(x, obs=obs, var=pd.DataFrame(index=list(symbols))).write_h5ad(path)


def child(folder: Path) -> None:
    """Embed a file of cells and print the peak memory of this process, in KiB."""
    import anndata

    import celllm

    cells = anndata.read_h5ad(folder / "cells.h5ad", backed="r")
    celllm.load(folder, device="cpu").embed(cells, progress=False)
    # Not getrusage: its maximum is also that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def time_of_import(rounds: int) -> None:
    """Seconds of `import celllm`, and whether PyTorch came with it."""
    code = (
        "import time; start = time.perf_counter(); import celllm, sys; "
        "print(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    seconds = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        first, torch_too = done.stdout.split()
        seconds.append(float(first))
    print(f"import celllm: {statistics.median(seconds):.3f} s (PyTorch with it: {torch_too})")


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", choices=["speed", "memory", "import"], default="speed")
    parser.add_argument("--median", type=int, default=540, help="genes of a cell; 540: Zheng68k, 1900: Baron")
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--depth", type=int, default=10, help="layers; the cost is proportional to it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--genes", type=int, default=19_379)
    parser.add_argument("--longest", type=int, default=LONGEST)
    parser.add_argument("--sizes", type=int, nargs="*", default=[20_000, 200_000], help="cells (part memory)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child)
    elif given.part == "speed":
        speed(given.median, given.cells, given.depth, given.rounds, given.genes, given.longest)
    elif given.part == "memory":
        memory(given.sizes)
    else:
        time_of_import(given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
