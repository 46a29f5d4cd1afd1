"""The scripts of examples/contrastive run; their float64 gradients are those of plain back-propagation."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from celllm.training.contrastive import end_to_end, info_nce, split
from tests.training.test_contrastive import gradients, relative_error

FOLDER = Path(__file__).parents[2] / "examples" / "contrastive"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_runs_and_the_loss_falls(name: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    if name == "several_processes":
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[3].rstrip(",")) for line in done.stdout.splitlines()]
    assert len(losses) == (4 if name == "two_towers" else 5)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("frozen", [False, True])
def test_two_towers(frozen: bool) -> None:
    script = example("two_towers")
    script.TRAIN_UPPER = not frozen
    torch.manual_seed(1)
    model = script.Towers().double()
    trained = nn.ModuleList([model.whole] if frozen else [model.whole, model.upper])
    batch = {"pixels": images(50)}
    torch.manual_seed(2)
    end_to_end([model.encode_whole, model.encode_upper], split(batch, 16), model.loss)
    expected = torch.cat([gradients(trained), model.logit_scale.grad.reshape(1)])
    model.zero_grad()
    torch.manual_seed(2)
    script.add_gradients(model, batch, 16)
    got = torch.cat([gradients(trained), model.logit_scale.grad.reshape(1)])
    assert relative_error(got, expected) < 1e-10
    assert model.logit_scale.grad.abs() > 1e-3


def test_mixed_precision() -> None:
    """Autocast leaves float64 alone, so that what remains is the arithmetic of scale and unscale."""
    script = example("mixed_precision")
    torch.manual_seed(1)
    model = script.encoder().double()
    torch.manual_seed(2)
    end_to_end(model, images(50).split(16), lambda h, h_plus: info_nce(h, h_plus, 0.2))
    expected = gradients(model)
    scaler, optimiser = torch.amp.GradScaler("cpu"), torch.optim.SGD(model.parameters(), lr=1.0)
    torch.manual_seed(2)
    script.add_gradients(model, images(50), 16, scaler)
    assert relative_error(torch.cat([p.grad.flatten() for p in model.parameters()]), 65536 * expected) < 1e-10
    scaler.unscale_(optimiser)
    assert relative_error(gradients(model), expected) < 1e-10


def test_mixed_precision_in_bfloat16_is_near() -> None:
    script = example("mixed_precision")
    torch.manual_seed(1)
    model = script.encoder()
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    torch.manual_seed(2)
    end_to_end(model, images(50).float().split(16), lambda h, h_plus: info_nce(h, h_plus, 0.2))
    expected = gradients(model)
    torch.manual_seed(2)
    script.add_gradients(model, images(50).float(), 16, scaler)
    assert 1e-5 < relative_error(gradients(model), expected) < 0.1


def test_gradient_accumulation() -> None:
    script = example("gradient_accumulation")
    torch.manual_seed(1)
    model = script.Autoencoder().double()
    batches = [images(20), images(30, seed=1)]
    torch.manual_seed(2)
    for batch in batches:
        views: list[list[Tensor]] = [[], []]
        rebuilt = torch.zeros((), dtype=torch.float64)
        for chunk in batch.split(8):
            for view in views:
                h, seen = model(chunk)
                view.append(h)
                rebuilt = rebuilt + functional.mse_loss(seen, chunk, reduction="sum") / batch.numel() / 4
        (info_nce(*map(torch.cat, views), 0.2) / 2 + rebuilt).backward()
    expected = gradients(model)
    torch.manual_seed(2)
    script.add_gradients(model, batches, 8)
    assert relative_error(gradients(model), expected) < 1e-10


def _process(rank: int, port: int, folder: str) -> None:
    """One of two processes: its gradients after the all-reduce go into a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    _gradients_of_process(rank, folder)
    distributed.barrier()
    distributed.destroy_process_group()


def _gradients_of_process(rank: int, folder: str) -> None:
    script = example("several_processes")
    torch.manual_seed(1)
    inner = script.encoder().double()
    log_temperature = nn.Parameter(torch.tensor(0.2, dtype=torch.float64).log())
    torch.manual_seed(10 + rank)
    script.add_gradients(DistributedDataParallel(inner), log_temperature, images(30, seed=rank), 8)
    torch.save([gradients(inner), log_temperature.grad], f"{folder}/{rank}.pt")


def test_several_processes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_process, (port, str(tmp_path)), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]

    script = example("several_processes")
    torch.manual_seed(1)
    model = script.encoder().double()
    log_temperature = nn.Parameter(torch.tensor(0.2, dtype=torch.float64).log())
    views: list[list[Tensor]] = [[], []]
    for rank in (0, 1):
        torch.manual_seed(10 + rank)
        for chunk in images(30, seed=rank).split(8):
            for view in views:
                view.append(model(chunk))
    info_nce(*map(torch.cat, views), log_temperature.exp()).backward()
    expected: list[Any] = [gradients(model), log_temperature.grad]
    for of_process in found:
        for got, wanted in zip(of_process, expected, strict=True):
            assert relative_error(got, wanted) < 1e-10
