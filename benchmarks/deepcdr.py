"""DeepCDR trained to convergence, beside the means that know nothing of expression or structure.

    celllm prepare ccle ... --out ccle.h5ad; celllm responses gdsc ... --out gdsc.csv
    python benchmarks/deepcdr.py --cells ccle.h5ad --responses gdsc.csv

One warm (or cold) split, protocol strict, published settings; every epoch is logged. The paper's Table 3 has
0.863 (warm) and 0.847 (cold) for DeepCDR. On 89,288 pairs an epoch takes a few minutes of one processor core.
"""

import argparse
import logging

import torch

from celllm import baselines
from celllm.data.splits import pair_folds
from celllm.evaluation.paper import load
from celllm.tasks.folds import offer
from celllm.tasks.runner import Runner
from celllm.tasks.screen import ScreenData


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", required=True, help="prepared expression, .h5ad")
    parser.add_argument("--responses", required=True, help="table of responses, CSV")
    parser.add_argument("--kind", choices=["warm", "cold"], default="warm")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(chosen.threads)
    data = ScreenData.read(chosen.cells, chosen.responses)
    (fold,) = pair_folds(data.lines.tolist(), data.drugs.tolist(), chosen.kind, n_repeats=1, seed=0)
    settings = {"deepcdr": {"epochs": chosen.epochs, "batch_size": chosen.batch_size}}
    found = {}
    for name in ("drug_mean", "ridge_by_drug", "deepcdr", "drug_mean_line_mean"):
        if (name, chosen.kind) == ("drug_mean_line_mean", "cold"):
            continue
        method = baselines.response_method(name)
        runner = Runner(method, method.settings(**settings.get(name, {})), 0)
        found[name] = data.measure(
            fold.test, runner.predict(data, fold, offer(fold, "strict", method.chooses), 0)
        )
    n_train, n_test = len(fold.train), len(fold.test)
    print(f"{chosen.kind} split of {len(data.pairs)} pairs: {n_train} to learn from, {n_test} tested")
    for name, values in sorted(found.items(), key=lambda item: item[1]["pearson"]):
        print(f"{name:20}" + "".join(f"  {metric} {value:.4f}" for metric, value in values.items()))
    print(f"{'DeepCDR in the paper':20}" + printed(chosen.kind))


def printed(kind: str) -> str:
    """The paper's numbers of this row."""
    table = load().table("table3")
    (row,) = [row for row in table.rows if row.name == "deepcdr"]
    columns = [column for column in table.columns if column.key.startswith(kind)]
    return "".join(f"  {c.metric.name} {row.numbers[table.index(c.key)].value:.4f}" for c in columns)


if __name__ == "__main__":
    main()
