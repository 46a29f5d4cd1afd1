"""GPU hours of one fine-tuned row, by counted work: all layers in every pass, and as the runs do it.

    python benchmarks/row_hours.py             # --gpu h100, --share 0.3: see `celllm cost --help`

The three ways: every layer runs in every pass over a cell (no frozen states kept); config/paper.yaml, which
keeps them; config/corrected.yaml, whose batches of pairs are of few cell lines. One pre-training, all data
sets, protocols and folds of the table; counted as `celllm cost` counts a run.
"""

import argparse
from pathlib import Path

from celllm.bill import GPUS, SHARE, Bill
from celllm.config import load
from celllm.plan import Plan

CONFIG = Path(__file__).parents[1] / "config"
NO_STORE = {"finetuning": {"store_mib": 0, "spill_mib": 0}}
WAYS = {
    "every layer, every pass": ("paper.yaml", {"annotation": NO_STORE, "drug_sensitivity": NO_STORE}),
    "paper.yaml": ("paper.yaml", {}),
    "corrected.yaml": ("corrected.yaml", {}),
}
TABLES = {"annotate": "Table 1", "drug_sensitivity": "Table 2", "drug_response": "Table 3"}


def hours(name: str, changes: dict[str, object], gpu: str, share: float) -> dict[tuple[str, str], float]:
    """GPU hours by rule and row."""
    one_seed = {"pretraining": {"seeds": [0]}}
    bill = Bill(Plan(load(CONFIG / name, changes=one_seed | changes)), gpu, share=share)
    return {(line.rule, line.row): line.gpu_hours for line in bill.lines}


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", choices=GPUS, default="a100")
    parser.add_argument("--share", type=float, default=SHARE, help="of the GPU's peak that is reached")
    parser.add_argument("--rows", nargs="+", default=["celllm", "scbert"])
    chosen = parser.parse_args(arguments)
    found = {way: hours(name, changes, chosen.gpu, chosen.share) for way, (name, changes) in WAYS.items()}
    print(f"| {chosen.gpu} hours of a row |", *(f"{way} |" for way in WAYS))
    print("| --- |" + " --- |" * len(WAYS))
    for row in chosen.rows:
        for rule, table in TABLES.items():
            print(f"| `{row}`, {table} |", *(f"{found[way][rule, row]:.1f} |" for way in WAYS))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
