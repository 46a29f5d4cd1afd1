"""What a finished run measures of its own judge: controls within a drug, permuted labels, time.

    python benchmarks/judge.py results/toy-mirror [--tgsa exp_zscore_580x706.csv ic50_82833_580x170.csv]

The figures of the means are those of DeepCDR's 107,446 real pairs of 561 lines (pooled, and inside drugs); a
run has as many pairs as its files, which are counted beside them. Those of the ridge were measured on TGSA's
82,833 pairs of 580 lines and 170 drugs, with its z-scores of 706 genes: more lines, other drugs. Given these
two files (lines x genes; drug_name, cell_line, ln_ic50), the same ridge is fitted to them, on the splits of
the cold start. Seventeen of TGSA's drugs were tested on 40 to 86 lines, 4 to 9 of which a split tests: what
lies inside them is noise, and the drugs with 100 pairs or more are told apart.

The last column says whether a control is within 0.02 of its figure, whether permuted labels are within two
standard errors of chance, or what they are.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from celllm.corpus.splits import pair_folds
from celllm.io import read_json
from celllm.methods.expression import centred
from celllm.methods.pairs import Pairs, Screen
from celllm.methods.response_controls import additive, ridge_by_drug
from celllm.methods.settings import RidgeSettings
from celllm.report.supplement import within

WARM, COLD = "Cell-line drug response (warm start)", "Cell-line drug response (cold start)"
POOLED, INSIDE = ("Pooled", "Pearson"), ("Pearson", "mean over drugs")
CONTROLS = (
    (COLD, "Drug mean", POOLED, 0.847),
    (COLD, "Drug mean", INSIDE, 0.0),
    (WARM, "Drug mean + line mean", POOLED, 0.883),
    (WARM, "Drug mean + line mean", INSIDE, 0.51),
    (COLD, "Ridge, each drug by itself", POOLED, 0.890),
    (COLD, "Ridge, each drug by itself", INSIDE, 0.54),
    (COLD, "Ridge by drug, lines shuffled", INSIDE, 0.0),
)
NEAR = 0.02
FEW = 100  # pairs of a drug of TGSA's


def lines(results: Path) -> list[tuple[str, str, str, str]]:
    """What, here, wanted, whether; a line for each measured point."""
    keys = ["block", "title", "over", "column"]
    s2, s6 = (
        pd.read_csv(results / f"tables/table_{name}.csv").set_index(keys)["value"] for name in ("s2", "s6")
    )
    found = []
    for block, title, where, wanted in CONTROLS:
        what = f"{title}, {block.partition('(')[2][:4]}, {'pooled' if where == POOLED else 'inside drugs'}"
        if (block, title, *where) not in s2:
            found.append((what, "not made", f"{wanted:.3f}", ""))
            continue
        found.append(compared(what, float(s2[block, title, *where]), wanted))
    for title, of_task in s6.groupby("title", sort=False):
        values = of_task.droplevel(["block", "title", "over"])
        errors, p = float(values["standard errors"]), float(values["p (Holm)"])
        verdict = "at chance" if abs(errors) <= 2 else f"{errors:+.1f} standard errors, p (Holm) {p:.2f}"
        found.append((f"permuted labels, {title}", f"{float(values['above chance']):+.3f}", "0", verdict))
    seconds = float(read_json(results / "manifest.json")["job_seconds"])
    return [*found, ("seconds of all jobs", f"{seconds:.0f}", "", "")]


def compared(what: str, here: float, wanted: float) -> tuple[str, str, str, str]:
    """A line for a figure and what it was elsewhere."""
    return what, f"{here:.3f}", f"{wanted:.3f}", "near" if abs(here - wanted) <= NEAR else "off"


def of_tgsa(expression: Path, responses: Path) -> list[tuple[str, str, str, str]]:
    """The ridge by drug on TGSA's lines, five cold splits."""
    pairs = pd.read_csv(responses)
    lines, of_line = np.unique(pairs["cell_line"].to_numpy(str), return_inverse=True)
    drugs, of_drug = np.unique(pairs["drug_name"].to_numpy(str), return_inverse=True)
    z = pd.read_csv(expression, index_col=0).loc[lines].to_numpy(float)
    screen, truth = Screen(lines, csr_matrix(z.shape), drugs, ()), pairs["ln_ic50"].to_numpy(float)
    pooled, inside = [], []
    for fold in pair_folds(pairs["cell_line"].tolist(), pairs["drug_name"].tolist(), "cold", 5, 0):
        learn = np.concatenate([fold.train, fold.validation])
        train = Pairs(screen, of_line[learn], of_drug[learn], truth[learn])
        x, table = centred(z, np.unique(train.lines)), additive(train, with_lines=False)
        residual = train.known - table[train.lines, train.drugs]
        table += ridge_by_drug(x @ x.T, train, residual, RidgeSettings().penalty)
        test = pd.DataFrame({"drug": of_drug[fold.test], "label": truth[fold.test]})
        test["predicted"] = table[of_line[fold.test], of_drug[fold.test]]
        pooled.append(test["label"].corr(test["predicted"]))
        inside += [(drug, within(part)[0]) for drug, part in test.groupby("drug")]
    of = pd.DataFrame(inside, columns=["drug", "pearson"]).groupby("drug")["pearson"].mean().dropna()
    many = np.bincount(of_drug)[of.index] >= FEW
    what = f"Ridge by drug, cold, {len(lines)} lines of TGSA"
    found = [compared(f"{what}, pooled", float(np.mean(pooled)), 0.890)]
    groups = ((f"{many.sum()} with {FEW} pairs or more", of[many]), (f"all {len(of)}", of))
    return found + [compared(f"{what}, inside drugs, {which}", float(r.mean()), 0.54) for which, r in groups]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a finished run, such as results/toy-mirror")
    parser.add_argument(
        "--tgsa", type=Path, nargs=2, metavar=("EXPRESSION", "RESPONSES"), help="two files of TGSA"
    )
    arguments = parser.parse_args()
    results = arguments.results
    sets = read_json(results / "facts/counts.json")["data_sets"]["gdsc_ccle"]
    print(f"{sets['n_pairs']:,} pairs of {sets['n_lines']:,} lines and {sets['n_drugs']:,} drugs\n")
    print("| what | here | wanted | |\n|---|---:|---:|---|")
    for line in lines(results) + (of_tgsa(*arguments.tgsa) if arguments.tgsa else []):
        print(f"| {' | '.join(line)} |".replace("|  |", "| |"))


if __name__ == "__main__":
    main()
