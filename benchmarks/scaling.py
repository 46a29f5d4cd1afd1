"""Whether pre-training costs the same per cell however large the corpus is, and how long it waits for data.

    python benchmarks/scaling.py                          # 1 k, 10 k and 100 k cells, 8m encoder

Made-up cells of about ``--genes`` expressed genes. Steps of pre-training on each corpus are taken in turns,
the next batch being made while one is trained on, as ``celllm pretrain`` does it. Prints seconds per cell for
each corpus, their ratio to those of the smallest, and the share of the steps spent waiting for a batch. On a
busy machine take ``OMP_NUM_THREADS=1`` and ``--processor-time``, which leaves out waiting for a core (waiting
for data stays a share of the time on the clock).
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import from_csr
from celllm.corpus.shards import run_index, write_shard
from celllm.training.distributed import joined
from celllm.training.model_row import ModelRow
from celllm.training.pretrain import Run, prepare
from celllm.training.pretrain_settings import PretrainSettings

N_GENES = 19_379
SHARD = 10_000


def write_corpus(folder: Path, vocabulary: Vocabulary, n_cells: int, n_expressed: int) -> Path:
    """Write shards of made-up cells and their index."""
    folder.mkdir()
    paths = []
    for start in range(0, n_cells, SHARD):
        rng, n = np.random.default_rng([n_cells, start]), min(SHARD, n_cells - start)
        indptr = np.concatenate([[0], np.cumsum(rng.poisson(n_expressed, n))])
        # One gene from each of as many equal stretches of the vocabulary: sorted, without repeats.
        width = N_GENES // int(np.diff(indptr).max())
        place = np.arange(indptr[-1]) - np.repeat(indptr[:-1], np.diff(indptr))
        genes = place * width + rng.integers(0, width, indptr[-1])
        counts = (1 + rng.poisson(1.5, indptr[-1])).astype(np.float32)
        cells = from_csr(csr_matrix((counts, genes, indptr), shape=(n, N_GENES)), np.arange(N_GENES))
        paths.append(folder / f"S{start}.safetensors")
        said = {"source": "made_up", "sample": paths[-1].stem}
        sizes = {"n_genes": N_GENES, "genes_sha256": vocabulary.sha256}
        write_shard(paths[-1], cells, rng.random(n) < 0.4, np.arange(n), **said, **sizes)
    run_index(paths, folder / "index.json")
    return folder / "index.json"


@dataclass
class Course:
    """Pre-training on one corpus, and what its steps took."""

    run: Run
    maker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    per_cell: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.coming = self.maker.submit(self.run.batches.make, 0)

    def step(self, processor_time: bool) -> None:
        """Train on one batch while the next is made."""
        run, start, busy = self.run, time.perf_counter(), time.process_time()
        batch = self.coming.result()
        waited = time.perf_counter() - start
        self.coming = self.maker.submit(run.batches.make, run.step + 1)
        run.trainer.step(batch, run.step, 1e-4)
        run.step += 1
        seconds = time.perf_counter() - start
        self.waiting.append(waited / seconds)
        self.per_cell.append((time.process_time() - busy if processor_time else seconds) / batch.n_cells)


def open_course(corpus: Path, genes: Path, options: argparse.Namespace) -> Course:
    chosen = PretrainSettings(batch_size=options.batch, measure_peak=False, device="cpu", warmup_steps=0)
    row = ModelRow(size=options.size, contrast=options.contrast)
    with joined("cpu") as processes:
        return Course(prepare(row, chosen, processes, corpus, genes, None, corpus.parent / "state"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--genes", type=int, default=300, help="expressed genes of a cell")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6, help="on each corpus, after one to warm up")
    parser.add_argument("--size", default="8m")
    parser.add_argument("--contrast", default="divide_and_conquer")
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine, with one thread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = Vocabulary(tuple(f"G{i:05}" for i in range(N_GENES)), ("",) * N_GENES)
        vocabulary.write(folder / "genes.tsv")
        courses = {}
        for n in options.cells:
            corpus = write_corpus(folder / str(n), vocabulary, n, options.genes)
            courses[n] = open_course(corpus, folder / "genes.tsv", options)
        for _ in range(1 + options.steps):
            for course in courses.values():
                course.step(options.processor_time)
    report(courses, options)


def report(courses: dict[int, Course], options: argparse.Namespace) -> None:
    print(f"{options.size}, {options.contrast}, batches of {options.batch} cells of {options.genes} genes")
    rounds = zip(*(course.per_cell[1:] for course in courses.values()), strict=True)
    ratios = zip(*([value / one[0] for value in one] for one in rounds), strict=True)
    for (n, course), ratio in zip(courses.items(), ratios, strict=True):
        per_cell, waiting = statistics.median(course.per_cell[1:]), statistics.median(course.waiting[1:])
        print(
            f"  {n:7d} cells: {1e3 * per_cell:8.2f} ms per cell, {statistics.median(ratio):.3f} of the first "
            f"({min(ratio):.3f} to {max(ratio):.3f}); waiting for data {waiting:.2%} of a step "
            f"(at most {max(course.waiting[1:]):.2%}); wanted: 0.9 to 1.1, under 2 %"
        )
    for course in courses.values():
        course.maker.shutdown()


if __name__ == "__main__":
    main()
