"""Peak memory of an annotation job against the number of cells: `celllm score` in a process of its own.

    python benchmarks/annotation_memory.py                    # 5,000 and 50,000 cells of 100 genes

A small encoder, one epoch, two folds; the frozen states get 64 MiB of memory, the rest of them goes to disk.
Prints the largest resident size (Linux), of which mapped files can be given back at any time: they are told
apart, as `RssAnon` at its largest, sampled every 20 ms.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_GENES, MIB = 2000, 2**20
SIZE = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "n_features": 16}
SETTINGS = {"epochs": 1, "batch_size": 512, "accumulation": 1, "head": [16], "store_mib": 64}


def write_inputs(folder: Path, n_cells: int, n_expressed: int) -> None:
    """Cells of three classes, the vocabulary, two folds and an encoder."""
    import pandas as pd
    import torch
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from celllm.cells import h5ad
    from celllm.cells.check import PROVENANCE
    from celllm.cells.genes import Vocabulary
    from celllm.corpus.tokens import Tokeniser
    from celllm.model.encoder import Encoder
    from celllm.model.settings import EncoderConfig
    from celllm.model.weights import save_encoder
    from celllm.tasks.score import run_splits

    rng = np.random.default_rng(0)
    vocabulary = Vocabulary(tuple(f"GENE{i}" for i in range(N_GENES)), ("",) * N_GENES)
    vocabulary.write(folder / "genes.tsv")
    step = N_GENES // n_expressed
    genes = (rng.integers(step, size=(n_cells, 1)) + step * np.arange(n_expressed)).astype(np.int32)
    values = rng.geometric(0.4, size=genes.size).astype(np.float32)
    bounds = np.arange(0, genes.size + 1, n_expressed)
    labels = rng.choice(["B cell", "NK cell", "T cell"], n_cells)
    obs = pd.DataFrame({"sample": "s", "label": labels}, index=[f"c{i}" for i in range(n_cells)])
    counts = csr_matrix((values, genes.ravel(), bounds), (n_cells, N_GENES))
    data = AnnData(counts, obs=obs, var=pd.DataFrame(index=list(vocabulary.symbols)))
    data.uns["celllm"] = dict.fromkeys(PROVENANCE, 0) | {
        "values": "counts",
        "fractions": False,
        "label_counts": "{}",
    }
    h5ad.write(data, folder / "cells.h5ad")
    split = {"n_folds": 2, "validation_fraction": 0.2}
    run_splits("annotation", folder / "cells.h5ad", "made_up", folder / "splits.json", settings=split)
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(n_genes=N_GENES, **SIZE), torch.randn(N_GENES, SIZE["dim"]))
    meta = {"genes_sha256": vocabulary.sha256, "tokeniser": Tokeniser(N_GENES).to_json()}
    save_encoder(folder / "encoder.safetensors", encoder, meta)


def score(folder: Path) -> tuple[float, float]:
    """Run the job; MiB of the largest resident size, and of the largest without mapped files."""
    row = {"name": "made_up", "kind": "encoder", "encoder": str(folder / "encoder.safetensors")}
    command = [sys.executable, "-m", "celllm", "score", "--cells", folder / "cells.h5ad"]
    command += ["--genes", folder / "genes.tsv", "--splits", folder / "splits.json"]
    command += ["--model", json.dumps(row | {"title": "made up", "size": SIZE, "tokens": {}})]
    command += ["--settings", json.dumps(SETTINGS), "--protocols", "strict", "--data-set", "made_up"]
    environment = os.environ | {"TMPDIR": str(folder)}
    job = subprocess.Popen(
        [*map(str, command), "--out", str(folder / "scores")], env=environment, stderr=subprocess.PIPE
    )
    largest = {"VmHWM": 0, "RssAnon": 0}
    while job.poll() is None:
        status = Path(f"/proc/{job.pid}/status").read_text()
        for line in status.splitlines():
            name, _, rest = line.partition(":")
            if name in largest:
                largest[name] = max(largest[name], int(rest.split()[0]))
        time.sleep(0.02)
    if job.returncode:
        assert job.stderr
        sys.exit(job.stderr.read().decode()[-2000:])
    return largest["VmHWM"] / 1024, largest["RssAnon"] / 1024


def main(arguments: list[str] | None = None) -> int:
    """Print the peaks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 50_000], help="cells")
    parser.add_argument("--genes", type=int, default=100, help="expressed genes of a cell")
    chosen = parser.parse_args(arguments)
    for n_cells in chosen.sizes:
        with tempfile.TemporaryDirectory() as name:
            write_inputs(Path(name), n_cells, chosen.genes)
            size = Path(name, "cells.h5ad").stat().st_size / MIB
            resident, own = score(Path(name))
            print(
                f"{n_cells} cells, a file of {size:.0f} MiB: peak {resident:.0f} MiB, own {own:.0f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
