"""DeepCDR trained to convergence, beside the means that know nothing of expression or structure.

    celllm responses gdsc ... --out gdsc.csv
    python benchmarks/deepcdr.py --responses gdsc.csv --z-scores expression.csv.gz
    celllm prepare ccle ... --out ccle.h5ad
    python benchmarks/deepcdr.py --responses gdsc.csv --cells ccle.h5ad

Expression is a prepared data set, or a table of z-scores (rows are the lines' DepMap ids, columns are genes)
such as TGSA's of 706 genes. One warm (or cold) split, protocol strict; every epoch is logged. The paper's
Table 3 has 0.863 (warm) and 0.847 (cold) for DeepCDR. Published are batches of 64 random pairs; as a drug is
encoded once per batch, larger batches of fewer drugs take a fraction of the time.
"""

import argparse
import dataclasses
import logging
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from celllm import methods
from celllm.corpus.splits import pair_folds
from celllm.methods.pairs import Screen
from celllm.report.published import load
from celllm.tasks.folds import offer
from celllm.tasks.runner import Runner
from celllm.tasks.screen import ScreenData

METHODS = ("drug_mean", "drug_mean_line_mean", "ridge_by_drug", "line_mean_ridge_by_drug", "deepcdr")


class ScoredScreen(Screen):
    """A screen whose expression is there as z-scores already."""

    @cached_property
    def expression(self) -> NDArray[np.float64]:
        """Expression as it came (n_lines, genes)."""
        return self.counts.toarray().astype(np.float64)


def read_z_scores(path: str, responses: str) -> ScreenData:
    """Pairs of the lines that have z-scores."""
    table = pd.read_csv(path, index_col=0)
    data = ScreenData.join(csr_matrix(table.to_numpy()), table.index, responses)
    screen = ScoredScreen(**vars(data.pairs.screen))
    return dataclasses.replace(data, pairs=dataclasses.replace(data.pairs, screen=screen))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    expression = parser.add_mutually_exclusive_group(required=True)
    expression.add_argument("--cells", help="prepared expression, .h5ad")
    expression.add_argument("--z-scores", help="z-scores, lines x genes, CSV")
    parser.add_argument("--responses", required=True, help="table of responses, CSV")
    parser.add_argument("--kind", choices=["warm", "cold"], default="warm")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--drugs-per-batch", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    chosen = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(chosen.threads)
    responses = chosen.responses
    data = (
        read_z_scores(chosen.z_scores, responses)
        if chosen.z_scores
        else ScreenData.read(chosen.cells, responses)
    )
    (fold,) = pair_folds(data.lines.tolist(), data.drugs.tolist(), chosen.kind, n_repeats=1, seed=0)
    n_train, n_test = len(fold.train), len(fold.test)
    print(f"{chosen.kind} split of {len(data.pairs)} pairs: {n_train} to learn from, {n_test} tested")
    names = ("epochs", "batch_size", "drugs_per_batch", "learning_rate")
    settings = {"deepcdr": {name: getattr(chosen, name) for name in names}}
    for name in METHODS:
        if chosen.kind == "cold" and "line_mean" in name:
            continue  # there is no mean of a line that was never seen
        method = methods.response_method(name)
        runner = Runner(method, method.settings(**settings.get(name, {})), 0)
        offered = offer(fold, "strict", method.chooses)
        values = data.measure(fold.test, runner.predict(data, fold, offered, 0))
        print(f"{name:23}" + told(values), flush=True)
    print(f"{'DeepCDR in the paper':23}" + told(printed(chosen.kind)))


def told(values: dict[str, float]) -> str:
    """One line of metrics."""
    return "".join(f"  {metric} {value:.4f}" for metric, value in values.items())


def printed(kind: str) -> dict[str, float]:
    """The paper's numbers of this row."""
    table = load().table("table3")
    (row,) = [row for row in table.rows if row.name == "deepcdr"]
    columns = [column for column in table.columns if column.key.startswith(kind)]
    return {c.metric.name: row.numbers[table.index(c.key)].value for c in columns}


if __name__ == "__main__":
    main()
