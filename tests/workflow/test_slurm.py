"""What a real SLURM does to a pre-training with long steps: it goes on by itself, bit for bit."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from celllm.io import sha256
from tests.places import ROOT
from tests.workflow import slurm_node
from tests.workflow.slurm_node import told, until

pytestmark = pytest.mark.slow

STATE = Path("results/toy/checkpoints/celllm")
TARGET = STATE / "encoder.safetensors"
LOG = Path("results/toy/logs/pretrain/celllm.log")
LONG_STEP = 10
"""Seconds; a step that is broken off would not end within them."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[None]:
    asked = os.environ.get("CELLLM_SLURM")
    reason = slurm_node.why_not() if asked else "CELLLM_SLURM=1 asks for these tests, which take ten minutes"
    if reason:
        pytest.skip(f"no SLURM: {reason}")
    with slurm_node.node(tmp_path_factory.mktemp("slurm")):
        yield


def command(folder: Path, profile: str, config: Path, *more: str) -> list[str]:
    start = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
    ]
    start += ["--workflow-profile", str(ROOT / "profiles/default"), "--set-threads", "pretrain=1"]
    start += ["--profile", str(ROOT / f"profiles/{profile}")] if profile else ["--cores", "2"]
    return [*start, "--configfile", str(ROOT / "config/toy.yaml"), str(config), *more, "--", str(TARGET)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that was left alone, beside ``slow.yaml``: an encoder whose steps take longer than LONG_STEP."""
    folder = tmp_path_factory.mktemp("slurm-run")
    config, batch_size = folder / "slow.yaml", 64
    for n_steps in (1, 3):
        settings = {"batch_size": batch_size, "max_steps": n_steps, "token_budget": 1024, "log_steps": 1}
        settings |= {"geometry_steps": None, "measure_peak": False}
        slow = {
            "sizes": {"50m": {"dim": 128, "depth": 6, "heads": 4, "dim_head": 32}},
            "models": {"celllm": {"gene_embeddings": "trained"}},
            "pretraining": {"settings": settings},
        }
        config.write_text(yaml.safe_dump(slow))
        done = subprocess.run(
            command(folder / "whole", "", config), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        seconds = [float(row["seconds"]) for row in rows(folder / "whole" / STATE / "metrics.csv")]
        batch_size = min(1900, round(1.5 * LONG_STEP * batch_size / max(seconds)))
    assert min(seconds) > LONG_STEP
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def interrupt_by_cancelling(job: str) -> None:
    told("scancel", job)


def interrupt_by_requeueing(job: str) -> None:
    told("scontrol", "requeue", job)


def interrupt_by_preempting(job: str) -> None:
    told("sbatch", "--partition=high", "--mem=100000", "--output=/dev/null", "--wrap=sleep 5")


def leave_it_to_the_time_limit(job: str) -> None:
    pass


EVENTS: dict[str, tuple[Callable[[str], None], list[str]]] = {
    "scancel": (interrupt_by_cancelling, []),
    "requeue": (interrupt_by_requeueing, []),
    "preemption": (
        interrupt_by_preempting,
        ["pretrain:slurm_partition=low", "pretrain:mem_mb=150000"],
    ),
    "time limit": (leave_it_to_the_time_limit, ["pretrain:runtime=1"]),
}


class Run:
    """One pre-training through SLURM, interrupted in its second step."""

    def __init__(self, whole: Path, name: str) -> None:
        event, resources = EVENTS[name]
        self.folder = whole / name.replace(" ", "-")
        shutil.copytree(whole / "whole", self.folder)
        shutil.rmtree(self.folder / STATE)
        (self.folder / LOG).unlink()
        more = [
            "--set-resources",
            "pretrain:gpu=0",
            "pretrain:mem_mb=1000",
            "pretrain:runtime=20",
            *resources,
        ]
        began = time.time()
        controller = subprocess.Popen(
            command(self.folder, "slurm-toy", whole / "slow.yaml", *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until(lambda: "step 1/3" in self.log, f"{name}: no first step", 180)
            time.sleep(3)
            self.interrupted = time.time()
            event(rows(self.folder / STATE / "state/attempts.csv")[-1]["slurm_job"])
            self.output = controller.communicate(timeout=420)[0]
        finally:
            controller.kill()
        self.status, self.seconds = controller.returncode, time.time() - began

    @property
    def log(self) -> str:
        path = self.folder / LOG
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def runs(slurm, whole: Path) -> dict[str, Run]:
    """All events at the same time, each on a run of its own."""
    with ThreadPoolExecutor(len(EVENTS)) as pool:
        return dict(zip(EVENTS, pool.map(lambda name: Run(whole, name), EVENTS), strict=True))


@pytest.mark.parametrize("name", EVENTS)
def test_an_interrupted_training_goes_on_by_itself(runs: dict[str, Run], whole: Path, name: str) -> None:
    run = runs[name]
    assert run.status == 0, run.output[-3000:] + run.log[-3000:]
    attempts = rows(run.folder / STATE / "state/attempts.csv")
    assert [row["status"] for row in attempts] == ["interrupted"] * (len(attempts) - 1) + ["finished"]
    assert len(attempts) >= 2
    # A checkpoint of the last finished step was on disk each time, and nothing was done twice.
    assert int(attempts[0]["last_step"]) >= 1
    assert [row["first_step"] for row in attempts[1:]] == [row["last_step"] for row in attempts[:-1]]
    assert run.log.count("--- celllm pretrain again, ") == len(attempts) - 1
    assert ("Error in rule" in run.output) == (name == "scancel"), run.output
    for file in (TARGET, STATE / "state/step-000000003.safetensors"):
        assert sha256(run.folder / file) == sha256(whole / "whole" / file)


def test_a_granted_gpu_that_is_not_there_fails_once(slurm, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "whole", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / STATE)
    (tmp_path / "run" / LOG).unlink()
    more = ["--set-resources", "pretrain:gpu=1", "pretrain:mem_mb=1000"]
    done = subprocess.run(
        command(tmp_path / "run", "slurm-toy", whole / "slow.yaml", *more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    log = (tmp_path / "run" / LOG).read_text()
    assert "celllm pretrain: device: CUDA_VISIBLE_DEVICES=0, but PyTorch" in log
