"""One pre-training of a toy run through Snakemake, with settings of a test's own."""

import csv
import os
import shutil
import sys
from pathlib import Path

from tests.places import ROOT

STATE = Path("results/toy/checkpoints/celllm")
TARGET = STATE / "encoder.safetensors"
LOG = Path("results/toy/logs/pretrain/celllm.log")
# A run on a mirror that the environment names would be another one.
ENVIRON = {name: value for name, value in os.environ.items() if name != "CELLLM_MIRROR"}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def command(folder: Path, config: list[Path], *more: str) -> list[str]:
    """Snakemake on one pre-training."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    start += ["--directory", str(folder), "--workflow-profile", str(ROOT / "profiles/default")]
    start += ["--set-threads", "pretrain=1", "--configfile", str(ROOT / "config/toy.yaml"), *map(str, config)]
    return [*start, *more, "--", str(TARGET)]


def copy_run(source: Path, target: Path) -> None:
    """A finished run with its times; not the state of a Snakemake that is looking at it meanwhile."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("log", "locks", "incomplete", "tmp*"))


def copy_corpus(source: Path, target: Path) -> None:
    """All that is made before a pre-training, with its times."""
    for part in ("mirror", "raw", "prepared", "corpus"):
        shutil.copytree(source / "results/toy" / part, target / "results/toy" / part)
