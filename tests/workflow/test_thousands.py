"""The plan of a run on two thousand samples: jobs, seconds and memory (``pytest -s`` prints them)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from celllm.config import load
from celllm.plan import SAMPLES, Plan
from tests.places import ROOT

pytestmark = pytest.mark.slow
N_SAMPLES = 2000

# Between this test and what it measures: a process counts as at least as large as the one that started it.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10, file=sys.stderr)
sys.exit(code)
"""


def test_two_thousand_samples_are_planned_in_a_minute_and_400_mib(tmp_path: Path) -> None:
    """With 1,024 open files at most, as on many a login node. Seconds are the processor's."""
    plan = Plan(load(ROOT / "config/paper.yaml"))
    first, second = plan.config["data_sets"]["pretraining"]
    lists = [tmp_path / path for source in (first, second) for path in plan.raw_files(source)]
    names = {first: [f"SRA{n:06d}_SRS{n:07d}" for n in range(N_SAMPLES)], second: []}
    for path in lists:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1, 1))
    for source, samples in names.items():
        table = tmp_path / plan.results / SAMPLES.format(name=source)
        table.parent.mkdir(parents=True)
        table.write_text("\n".join(["sample", *samples]) + "\n")
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--directory", str(tmp_path)]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--quiet", "rules", "--", "all"]
    with (tmp_path / "plan.txt").open("w") as file:
        measured = subprocess.run(
            ["bash", "-c", 'ulimit -n 1024; exec "$@"', "-", sys.executable, "-c", MEASURE, *command],
            stdout=file, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    text = (tmp_path / "plan.txt").read_text()
    assert measured.returncode == 0, text[-2000:]
    jobs = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", text, re.M)}
    seconds, mib = map(float, measured.stderr.split())
    print(f"{jobs['total']} jobs planned in {seconds:.0f} s of the processor and {mib:.0f} MiB")
    assert jobs["prepare_sample"] == jobs["shard"] == N_SAMPLES
    assert seconds < 60
    assert mib < 400
