"""Say whether two runs have the same results: ``python tests/workflow/same_results.py RUN_A RUN_B``.

Compared are scores (but for seconds and memory), predictions, tables, claims, the numbers behind the figures
and the tensors of the encoders. Prints *equal*, or each difference, and exits with 1 then.
"""

import argparse
import sys

from celllm.errors import UserError
from celllm.report.compare import differences


def main() -> int:
    """Compare two folders of runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", help="folder of a run, results/toy")
    parser.add_argument("b", help="folder of another one")
    parser.add_argument("--tolerance", type=float, default=0.0, help="numbers may differ by this much")
    chosen = parser.parse_args()
    try:
        found = list(differences(chosen.a, chosen.b, chosen.tolerance))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(*(found or ["equal"]), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
