"""What a scheduler adds to a finished run: its seconds against those of its longest chain of jobs.

    python benchmarks/scheduling.py results/toy --seconds 1234 --configfile config/toy.yaml

``--seconds`` is what `time snakemake ...` said. Those of each job stand in results/<run>/benchmarks/;
Snakemake says which job waits for which (`--detailed-summary`).
"""

import argparse
import csv
import subprocess
import sys
from functools import cache
from pathlib import Path


def jobs_of(configfiles: list[str]) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Output file -> log of its job, and log -> input files."""
    command = [sys.executable, "-m", "snakemake", "--configfile", *configfiles, "--cores", "1"]
    done = subprocess.run(
        [*command, "--detailed-summary", "--", "all"], capture_output=True, text=True, check=True
    )
    logs: dict[str, str] = {}
    inputs: dict[str, set[str]] = {}
    lines = done.stdout[done.stdout.index("output_file") :].splitlines()
    for row in csv.DictReader(lines, delimiter="\t"):
        if row["log-file(s)"] not in ("", "-"):
            logs[row["output_file"]] = row["log-file(s)"]
            inputs.setdefault(row["log-file(s)"], set()).update(row["input-file(s)"].split(","))
    return logs, inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", help="folder of the finished run, results/<run>")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--configfile", nargs="+", default=["config/toy.yaml"])
    chosen = parser.parse_args()
    logs, inputs = jobs_of(chosen.configfile)

    def seconds(log: str) -> float:
        table = Path(chosen.run, "benchmarks", Path(log).relative_to(Path(chosen.run, "logs"))).with_suffix(
            ".tsv"
        )
        with open(table, encoding="utf-8") as handle:
            return float(next(csv.DictReader(handle, delimiter="\t"))["s"])

    @cache
    def chain(log: str) -> tuple[float, tuple[str, ...]]:
        before = [chain(logs[path]) for path in inputs[log] if path in logs]
        total, jobs = max(before, default=(0.0, ()))
        return total + seconds(log), (*jobs, log)

    longest, jobs = max(map(chain, inputs))
    total = sum(map(seconds, inputs))
    added = chosen.seconds - longest
    print(f"{len(inputs)} jobs of {total:.0f} s together; {chosen.seconds:.0f} s from the first to the last")
    share = f"{added:.0f} s, {added / chosen.seconds:.0%}"
    print(f"longest chain: {len(jobs)} jobs of {longest:.0f} s; the rest is {share}")
    for log in jobs:
        print(f"  {seconds(log):7.1f} s  {Path(log).relative_to(Path(chosen.run, 'logs')).with_suffix('')}")


if __name__ == "__main__":
    main()
