"""Speed of the pre-training corpus on made-up cells: writing shards, reading random batches.

    python benchmarks/corpus.py --cells 200000 --samples 40

Writes prepared samples and one file of all of them in a temporary folder (20 kB per cell; ``--folder``
chooses where), then prints cells/s and MB/s of writing shards with the peak memory of the process that does
it, cells/s of reading random batches from the shards, of the same batches from the backed ``.h5ad`` through
anndata, their ratio, and cells/s of making tokens. Both readers run in turns; files are in the page cache for
both.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata.experimental import concat_on_disk
from scipy.sparse import csr_matrix

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.corpus.batches import EpochSampler
from celllm.corpus.shards import Corpus, run_index, run_shard
from celllm.corpus.tokens import Tokeniser

N_GENES = 19_379


def make_sample(path: Path, n_cells: int, n_expressed: int, seed: int) -> None:
    """Write cells of about ``n_expressed`` genes each as a prepared ``.h5ad``."""
    rng = np.random.default_rng(seed)
    lengths = rng.poisson(n_expressed, n_cells)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    # One gene from each of as many equal stretches of the vocabulary: sorted, without repeats.
    width = N_GENES // lengths.max()
    place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
    genes = (place * width + rng.integers(0, width, indptr[-1])).astype(np.int32)
    counts = (1 + rng.poisson(1.5, indptr[-1])).astype(np.float32)
    obs = pd.DataFrame({"sample": path.stem, "tumour": rng.random(n_cells) < 0.4})
    obs.index = [f"{path.stem}:{i}" for i in range(n_cells)]
    data = anndata.AnnData(csr_matrix((counts, genes, indptr), shape=(n_cells, N_GENES)), obs=obs)
    data.var_names = [f"G{i:05}" for i in range(N_GENES)]
    data.uns["celllm"] = {**dict.fromkeys(PROVENANCE, 0), "source": "made_up", "values": "counts"}
    h5ad.write(data, path)


def write_vocabulary(path: Path) -> None:
    rows = [f"{i}\tG{i:05}\t" for i in range(N_GENES)]
    path.write_text("\n".join(["index\tsymbol\tensembl_id", *rows]) + "\n")


def write_shards(folder: Path, samples: list[Path]) -> None:
    """Write all shards in a process of its own, so that its peak memory can be told."""

    def done(process: multiprocessing.context.SpawnProcess) -> None:
        process.start()
        process.join()

    context = multiprocessing.get_context("spawn")
    done(context.Process(target=_shards, args=(folder, samples[:1])))
    start = time.perf_counter()
    done(context.Process(target=_shards, args=(folder, samples)))
    seconds = time.perf_counter() - start
    shards = sorted(folder.glob("*.safetensors"))
    run_index(shards, folder / "index.json")
    n_cells = Corpus.open(folder / "index.json").n_cells
    megabytes = sum(shard.stat().st_size for shard in shards) / 1e6
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"writing {n_cells} cells, {len(shards)} shards: {seconds:.1f} s with start of the process")
    print(f"  {n_cells / seconds:.0f} cells/s, {megabytes / seconds:.0f} MB/s, peak memory {peak:.0f} MiB")


def _shards(folder: Path, samples: list[Path]) -> None:
    for sample in samples:
        run_shard(sample, folder / "genes.tsv", folder / f"{sample.stem}.safetensors")


def read_batches(folder: Path, batch_size: int, rounds: int) -> None:
    corpus = Corpus.open(folder / "index.json")
    backed = anndata.read_h5ad(folder / "all.h5ad", backed="r")
    sampler, tokeniser = EpochSampler(corpus.n_cells, batch_size, seed=0), Tokeniser(N_GENES)
    rates: dict[str, list[float]] = {"shards": [], "backed h5ad": [], "tokens": []}

    def timed(name: str, n_cells: int, start: float) -> None:
        rates[name].append(n_cells / (time.perf_counter() - start))

    for _ in range(rounds):
        batches = [next(sampler) for _ in range(min(50, sampler.batches_per_epoch))]
        start = time.perf_counter()
        for rows in batches:
            ragged = corpus.take(rows)
        timed("shards", len(batches) * batch_size, start)
        start = time.perf_counter()
        tokeniser(ragged)
        timed("tokens", batch_size, start)
        start = time.perf_counter()
        counts = backed.X[np.sort(batches[0])]
        timed("backed h5ad", batch_size, start)
        assert counts.nnz == corpus.take(batches[0]).indptr[-1]
    for name, values in rates.items():
        print(
            f"{name}: {statistics.median(values):.0f} cells/s in batches of {batch_size} (median of {rounds})"
        )
    ratio = statistics.median(a / b for a, b in zip(rates["shards"], rates["backed h5ad"], strict=True))
    print(f"ratio shards / backed h5ad: {ratio:.1f} (at least 20 wanted; at least 50000 cells/s from shards)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--genes", type=int, default=1000, help="expressed genes per cell")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where the temporary folder is made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        samples = [folder / f"S{i:04}.h5ad" for i in range(args.samples)]
        for seed, sample in enumerate(samples):
            make_sample(sample, args.cells // args.samples, args.genes, seed)
        concat_on_disk(samples, folder / "all.h5ad", uns_merge="first")
        write_vocabulary(folder / "genes.tsv")
        write_shards(folder, samples)
        read_batches(folder, args.batch, args.rounds)


if __name__ == "__main__":
    main()
