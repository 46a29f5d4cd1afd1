"""Several processes through the launcher: killed and stopped, they end with the bits of a run left alone."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celllm.errors import UserError
from celllm.io import sha256
from celllm.model.embedder import find_device
from celllm.training import checkpoints, launch
from tests.places import ROOT

Arguments = Callable[..., dict[str, Any]]
N_STEPS = 30


@pytest.fixture
def started() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a pre-training of two processes in a session of its own; what is left of it is killed."""
    processes = []

    def start(arguments: dict[str, Any], threads: int = 5) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "celllm", "pretrain", "--processes", "2"]
        for name, value in arguments.items():
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            command += [f"--{name.replace('_', '-')}", text]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
        processes.append(
            subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True)
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read_until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def pid_of(rank: int, launcher: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    ranks = {}
    for child in children:
        found = re.search(rb"(?:^|\0)RANK=(\d+)", Path(f"/proc/{child}/environ").read_bytes())
        if found:
            ranks[int(found[1])] = int(child)
    return ranks[rank]


def result(arguments: dict[str, Any]) -> list[str]:
    last = f"step-{N_STEPS:09d}.safetensors"
    return [sha256(arguments["out"]), sha256(Path(arguments["checkpoints"]) / last)]


@pytest.mark.slow
def test_two_processes_killed_and_stopped_end_with_the_same_bits(arguments: Arguments, started) -> None:
    settings = {"max_steps": N_STEPS, "checkpoint_steps": 4, "batch_size": 23}
    whole, parts = (arguments(name, **settings) for name in ("whole", "parts"))
    process = started(whole)
    log = process.communicate(timeout=120)[1]
    assert process.returncode == 0, log
    assert "2 process(es) of 2 thread(s)" in log
    assert len(re.findall(r"step 7/30 ", log)) == 1, "one process logs"

    process = started(parts)
    read_until(process, "step 9/30")
    os.kill(pid_of(1, process.pid), signal.SIGKILL)
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "process 1 of 2 was ended by SIGKILL; the same command resumes" in log
    assert max(checkpoints.steps(parts["checkpoints"])) >= 8

    process = started(parts)
    read_until(process, "step 15/30")
    os.killpg(process.pid, signal.SIGTERM)  # SLURM signals every process of a job
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 75, log
    assert "Traceback" not in log
    assert max(checkpoints.steps(parts["checkpoints"])) >= 15

    process = started(parts)
    log = process.communicate(timeout=120)[1]
    assert process.returncode == 0, log
    assert "resuming after step" in log
    assert result(parts) == result(whole)


@pytest.mark.parametrize(("gpus", "processes", "expected"), [(0, 0, 1), (1, 0, 1), (0, 2, 2), (1, 3, 3)])
def test_one_process_for_each_gpu(gpus: int, processes: int, expected: int) -> None:
    assert launch.n_processes(gpus, processes) == expected


def test_gpus_that_are_not_there_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert launch.n_processes(2, 0) == 2
    with pytest.raises(UserError, match="4 GPUs asked for, PyTorch finds 2"):
        launch.n_processes(4, 0)


GRANTED = {
    "CUDA_VISIBLE_DEVICES": "0",
    "SLURM_STEP_GPUS": "0",
    "SLURM_JOB_GPUS": "2,3",
    "SLURM_GPUS": "1",
    "SLURM_GPUS_ON_NODE": "4",
}
NOT_GRANTED = {"CUDA_VISIBLE_DEVICES": "-1", "SLURM_JOB_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}


@pytest.mark.parametrize("name", GRANTED)
def test_a_granted_gpu_that_is_not_seen_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for other in GRANTED:
        monkeypatch.delenv(other, raising=False)
    assert find_device().type == "cpu"
    for other, value in NOT_GRANTED.items():
        monkeypatch.setenv(other, value)
    assert find_device().type == "cpu"
    monkeypatch.setenv(name, GRANTED[name])
    with pytest.raises(
        UserError, match=f"{name}={GRANTED[name]}, but PyTorch .* finds no CUDA device: install"
    ):
        find_device()
    assert find_device("cpu").type == "cpu"
