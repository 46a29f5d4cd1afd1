"""Two gloo processes give what one process gives."""

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from celllm.training.distributed import Processes, joined
from tests.training.conftest import run_pretrain

Arguments = Callable[..., dict[str, Any]]

# Without dropout: the processes draw their dropout masks on their own.
SIZE = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "dropout": 0.0}

GRADIENTS = """
import json, sys
from pathlib import Path
import torch
from celllm.training.distributed import joined
from celllm.training.settings import ModelRow
from celllm.training.pretrain import prepare
from celllm.training.settings import PretrainSettings

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
with joined("cpu") as processes:
    for arguments in json.loads(sys.argv[1]):
        print(arguments["model"]["contrast"], file=sys.stderr)
        files = [arguments[name] for name in ("corpus", "genes", "gene_embeddings")]
        folder = Path(arguments["checkpoints"])
        row, settings = ModelRow(**arguments["model"]), PretrainSettings(**arguments["settings"])
        run = prepare(row, settings, processes, *files, folder)
        losses = run.trainer.add_gradients(run.batches.make(0))
        gradients = {name: p.grad for name, p in run.trainer.model.named_parameters() if p.requires_grad}
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((losses, gradients), folder / f"rank{processes.rank}of{processes.size}.pt")
"""

TRAINING = """
import json, sys
import torch
torch.set_num_threads(1)
from celllm.settings import as_settings
from celllm.training.pretrain import run_pretrain
from celllm.training.settings import ModelRow, PretrainSettings
given = json.loads(sys.argv[1])
given["model"] = as_settings(ModelRow, given["model"])
given["settings"] = as_settings(PretrainSettings, given["settings"])
sys.exit(run_pretrain(**given))
"""


def run_processes(script: str, argument: Any, n: int) -> None:
    """Start n processes with the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n),
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(argument)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]
    try:
        errors = [process.communicate(timeout=60)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * n, errors


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(arguments: Arguments) -> None:
    """All contrasts, odd number of cells, several chunks in each process."""
    contrasts = ["divide_and_conquer", "end_to_end", "moco", "none"]
    made = [
        arguments(contrast, row={"contrast": contrast, "size": SIZE}, batch_size=23, token_budget=110)
        for contrast in contrasts
    ]
    run_processes(GRADIENTS, made, 1)
    run_processes(GRADIENTS, made, 2)
    for one in made:
        folder = Path(one["checkpoints"])
        losses, expected = torch.load(folder / "rank0of1.pt", weights_only=True)
        for rank in (0, 1):
            found_losses, found = torch.load(folder / f"rank{rank}of2.pt", weights_only=True)
            assert found_losses == pytest.approx(losses, rel=1e-9)
            for name, gradient in expected.items():
                assert (found[name] - gradient).norm() <= 1e-9 * gradient.norm() + 1e-14, name


@pytest.mark.slow
def test_a_run_of_two_processes_ends_where_one_does(arguments: Arguments) -> None:
    """Loss by loss and weight by weight, and one process can go on from the checkpoint of two."""
    row = {"size": SIZE}
    alone, two = (arguments(name, row=row, batch_size=23) for name in ("alone", "two"))
    assert run_pretrain(**alone) == 0
    run_processes(TRAINING, two, 2)
    assert losses(two["metrics"]) == pytest.approx(losses(alone["metrics"]), rel=1e-4)
    one, other = load_file(alone["out"]), load_file(two["out"])
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=2e-4), name
    Path(two["out"]).unlink()
    assert run_pretrain(**two) == 0
    assert all(torch.equal(value, other[name]) for name, value in load_file(two["out"]).items())


def losses(path: str) -> list[float]:
    with open(path, newline="") as handle:
        return [float(row["loss"]) for row in csv.DictReader(handle)]


def test_alone_nothing_is_gathered() -> None:
    with joined("cpu") as processes:
        assert processes == Processes(0, 1, torch.device("cpu"))
        h = torch.randn(3, 2, requires_grad=True)
        assert processes.gather(h) is h
        assert processes.sum({"a": torch.tensor(2.0), "b": 3.0}) == {"a": 2.0, "b": 3.0}
        assert processes.any(True)
        assert not processes.any(False)
