"""Killed at any point, a run ends with the same bits as one that was left alone."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from celllm.errors import UserError
from celllm.interruption import StopRequest
from celllm.io import sha256
from celllm.training import checkpoints
from celllm.training.attempts import read as read_attempts
from celllm.training.trainer import Trainer
from tests.training.conftest import run_pretrain
from tests.training.test_pretrain import open_run

Arguments = Callable[..., dict[str, Any]]

# 90 cells in batches of 24: an epoch ends after steps 3, 6 and 9; every batch has cells of all three shards.
N_STEPS = 10

# Runs the pre-training of argv[1] and, at the place argv[2] of step argv[3], kills itself.
CHILD = """
import json, os, signal, sys, time
import safetensors.torch
import torch
torch.set_num_threads(1)
from celllm.training import pretrain
from celllm.training.trainer import Trainer

arguments, place, at = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
gradients, update, write = Trainer.gradients, Trainer.update, safetensors.torch.save_file

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def before(self, batch, step):
    before.step = step
    if place == "before" and step == at:
        kill()
    losses = gradients(self, batch, step)
    if place == "within" and step == at:
        print("within", flush=True)
        time.sleep(60)
    return losses

def after(self, batch, rate):
    if place == "slow":
        print("step", flush=True)
        time.sleep(0.2)
    updated = update(self, batch, rate)
    if place == "after" and before.step == at:
        kill()
    return updated

def save_file(tensors, path, metadata):
    if place == "writing" and json.loads(metadata["celllm"]).get("step") == at:
        path.write_bytes(b"half of a checkpoint")
        kill()
    write(tensors, path, metadata)

Trainer.gradients, Trainer.update, safetensors.torch.save_file = before, after, save_file
from celllm.settings import as_settings
from celllm.training.settings import ModelRow, PretrainSettings

arguments["model"] = as_settings(ModelRow, arguments["model"])
arguments["settings"] = as_settings(PretrainSettings, arguments["settings"])
sys.exit(pretrain.run_pretrain(**arguments))
"""


def child(arguments: dict[str, Any], place: str, at: int = -1) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, json.dumps(arguments), place, str(at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(arguments: dict[str, Any], place: str, at: int) -> None:
    process = child(arguments, place, at)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors


def losses(path: str) -> list[tuple[str, ...]]:
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    names = (
        "step",
        "epoch",
        "n_tokens",
        "learning_rate",
        "loss",
        "mlm",
        "tumour",
        "contrast",
        "gradient_norm",
    )
    return [tuple(row[name] for name in names) for row in rows]


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Two runs told the same at every step and ended with the same encoder, heads, optimiser and queue."""
    assert losses(one["metrics"]) == losses(two["metrics"])
    last = f"step-{N_STEPS:09d}.safetensors"
    first, second = (load_file(Path(run["checkpoints"]) / last) for run in (one, two))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert sha256(Path(one["checkpoints"]) / last) == sha256(Path(two["checkpoints"]) / last)
    assert sha256(one["out"]) == sha256(two["out"])


def test_runs_of_these_tests_cross_shards_and_epochs(arguments: Arguments) -> None:
    """Each batch has cells of all shards, and steps 4, 7 and 10 are the first of an epoch."""
    run = open_run(arguments())
    batches = [run.batches.make(step) for step in range(N_STEPS)]
    samples = [set(run.batches.corpus.samples(np.concatenate(batch.rows))) for batch in batches]
    assert samples == [{"healthy", "blood", "tumour"}] * N_STEPS
    assert [batch.sampler["epoch"] for batch in batches] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


@pytest.mark.slow
def test_killed_and_resumed_is_never_interrupted(arguments: Arguments) -> None:
    """One run is killed six times: before and after updates, within a write, around two epoch ends."""
    whole, parts = (arguments(name, max_steps=N_STEPS, checkpoint_steps=2) for name in ("whole", "parts"))
    assert run_pretrain(**whole) == 0
    folder = Path(parts["checkpoints"])
    killed(parts, "before", 1)
    assert checkpoints.steps(folder) == []
    killed(parts, "after", 2)
    assert checkpoints.steps(folder) == [2]
    killed(parts, "writing", 4)
    assert checkpoints.steps(folder) == [2]
    assert list(folder.glob(".partial-*")), "killed within the write"
    killed(parts, "before", 5)
    assert checkpoints.steps(folder) == [2, 4]
    assert not list(folder.glob(".partial-*"))
    killed(parts, "after", 7)
    assert checkpoints.steps(folder) == [4, 6]
    killed(parts, "writing", 10)
    assert not Path(parts["out"]).exists()
    assert run_pretrain(**parts) == 0
    assert_same(whole, parts)


@pytest.mark.parametrize("contrast", ["divide_and_conquer", "end_to_end", "moco", "none"])
def test_resumed_from_any_step(arguments: Arguments, monkeypatch: pytest.MonkeyPatch, contrast: str) -> None:
    """Without a process of its own for each: stopped after every single step."""
    settings = {"max_steps": N_STEPS, "checkpoint_steps": 1}
    whole, parts = (arguments(name, row={"contrast": contrast}, **settings) for name in ("whole", "parts"))
    assert run_pretrain(**whole) == 0
    entered, update = StopRequest.__enter__, Trainer.update
    stops = []

    def stop_after_this_step(trainer: Trainer, *of_the_step: Any) -> dict[str, float]:
        stops[-1].signal = "SIGTERM"
        return update(trainer, *of_the_step)

    monkeypatch.setattr(StopRequest, "__enter__", lambda stop: stops.append(entered(stop)) or stop)
    monkeypatch.setattr(Trainer, "update", stop_after_this_step)
    for step in range(1, N_STEPS):
        assert run_pretrain(**parts) == 75
        assert max(checkpoints.steps(parts["checkpoints"])) == step
    assert run_pretrain(**parts) == 0
    assert_same(whole, parts)
    table = read_attempts(Path(parts["checkpoints"]) / "attempts.csv")
    assert [row["status"] for row in table] == ["interrupted"] * (N_STEPS - 1) + ["finished"]
    assert [int(row["last_step"]) for row in table] == [*range(1, N_STEPS + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("contrast", ["divide_and_conquer", "moco"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_last_finished_step_at_once(
    arguments: Arguments, number: int, contrast: str
) -> None:
    """Within a step that has a minute to go, with all its gradients there."""
    row = {"contrast": contrast}
    whole, parts = (arguments(name, row=row, max_steps=N_STEPS) for name in ("whole", "parts"))
    assert run_pretrain(**whole) == 0
    process = child(parts, "within", 3)
    assert process.stdout.readline() == "within\n"
    began = time.monotonic()
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75, errors
    assert time.monotonic() - began < 10
    assert checkpoints.steps(parts["checkpoints"]) == [3]
    assert not Path(parts["out"]).exists()
    assert run_pretrain(**parts) == 0
    assert_same(whole, parts)


def test_interruptions_that_get_nowhere_are_a_failure(
    arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = arguments()
    entered = StopRequest.__enter__
    monkeypatch.setattr(
        StopRequest, "__enter__", lambda stop: setattr(stop, "signal", "SIGTERM") or entered(stop)
    )
    assert [run_pretrain(**made) for _ in range(2)] == [75, 75]
    with pytest.raises(UserError, match="interrupted 3 times before a step was finished"):
        run_pretrain(**made)
    monkeypatch.undo()
    assert run_pretrain(**made) == 0


def test_what_failed_by_its_input_is_not_repeated_by_a_workflow(arguments: Arguments) -> None:
    made = arguments(batch_size=24)
    made["settings"]["held_out_cells"] = 90
    with pytest.raises(UserError, match="leave none to train on"):
        run_pretrain(**made)
    made["settings"]["held_out_cells"] = 0
    with pytest.raises(UserError, match=r"not tried again: settings\.held_out_cells: 90 of 90"):
        run_pretrain(**made, attempt=2)
    assert run_pretrain(**made) == 0


@pytest.mark.slow
def test_killed_at_random_times(arguments: Arguments) -> None:
    settings = {"max_steps": N_STEPS, "checkpoint_steps": 1}
    whole, parts = (arguments(name, **settings) for name in ("whole", "parts"))
    assert run_pretrain(**whole) == 0
    for seconds in (0.31, 0.17, 0.53):
        process = child(parts, "slow")
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        process.wait()
    assert run_pretrain(**parts) == 0
    assert_same(whole, parts)
