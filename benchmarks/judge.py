"""What a finished run measures of its own judge: controls within a drug, permuted labels, time.

    python benchmarks/judge.py results/toy-mirror

The figures of the controls are those of DeepCDR's 107,446 real pairs of 561 lines (pooled, and inside drugs);
a run has as many pairs as its files, which are counted beside them. The last column says whether a control is
within 0.02 of its figure, whether permuted labels are within two standard errors of chance, or what they are.
"""

import argparse
from pathlib import Path

import pandas as pd

from celllm.io import read_json

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
        here = float(s2[block, title, *where])
        found.append((what, f"{here:.3f}", f"{wanted:.3f}", "near" if abs(here - wanted) <= NEAR else "off"))
    for title, of_task in s6.groupby("title", sort=False):
        values = of_task.droplevel(["block", "title", "over"])
        errors, p = float(values["standard errors"]), float(values["p (Holm)"])
        verdict = "at chance" if abs(errors) <= 2 else f"{errors:+.1f} standard errors, p (Holm) {p:.2f}"
        found.append((f"permuted labels, {title}", f"{float(values['above chance']):+.3f}", "0", verdict))
    seconds = float(read_json(results / "manifest.json")["job_seconds"])
    return [*found, ("seconds of all jobs", f"{seconds:.0f}", "", "")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of a finished run, such as results/toy-mirror")
    results = parser.parse_args().results
    sets = read_json(results / "facts/counts.json")["data_sets"]["gdsc_ccle"]
    print(f"{sets['n_pairs']:,} pairs of {sets['n_lines']:,} lines and {sets['n_drugs']:,} drugs\n")
    print("| what | here | wanted | |\n|---|---:|---:|---|")
    for line in lines(results):
        print(f"| {' | '.join(line)} |".replace("|  |", "| |"))


if __name__ == "__main__":
    main()
