"""Reading one PanglaoDB sample beside what the rdata package alone needs for it.

    python benchmarks/read_rdata.py --cells 5000 --genes 1200

Writes a made-up sample, reads it in turns with the reader and with the package, and prints the median times,
the median of the round-by-round ratios (1: the reader adds nothing) and cells/s.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rdata
from scipy.sparse import csc_matrix

from celllm.cells.readers.panglaodb import Options, read
from celllm.toy.rworkspace import SparseMatrix, workspace

N_NAMES = 25_000


def make_sample(path: Path, n_cells: int, n_genes: int) -> None:
    rng = np.random.default_rng(0)
    step = N_NAMES // n_genes
    genes = np.arange(n_genes) * step + rng.integers(0, step, (n_cells, n_genes))
    counts = rng.geometric(0.5, genes.size).astype(float)
    pointers = np.arange(0, genes.size + 1, n_genes)
    matrix = csc_matrix((counts, genes.ravel(), pointers), shape=(N_NAMES, n_cells))
    names = [f"GENE{i}_ENSG{i:011d}.1" for i in range(N_NAMES)]
    path.write_bytes(workspace(SparseMatrix(matrix, names, [f"BARCODE{i}" for i in range(n_cells)])))


def seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--cells", type=int, default=5000)
    arguments.add_argument("--genes", type=int, default=1200, help="expressed genes of a cell")
    arguments.add_argument("--rounds", type=int, default=7)
    chosen = arguments.parse_args()
    warnings.filterwarnings("ignore", message="Missing constructor")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.RData"
        make_sample(path, chosen.cells, chosen.genes)
        options = Options(cells="min_genes")
        rounds = [
            (seconds(lambda: read({"matrix": path}, options)), seconds(lambda: rdata.read_rda(path)))
            for _ in range(chosen.rounds)
        ]
    ours, package = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    speed = f"{chosen.cells / ours:,.0f} cells/s"
    print(f"reader {ours:.3f} s ({speed}), rdata alone {package:.3f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
