"""A pre-training that fails for good in a workflow leaves the reason in the place of its encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celllm.errors import NotTrainedError, UserError
from celllm.io import read_csv
from celllm.model.weights import load_encoder
from celllm.training import attempts as attempts_module
from celllm.training.attempts import Attempts
from celllm.training.trainer import Trainer
from tests.training.conftest import run_pretrain

Made = Callable[..., dict[str, Any]]


def fail_from(monkeypatch: pytest.MonkeyPatch, step: int, error: Exception) -> None:
    gradients = Trainer.gradients

    def fail(self: Trainer, batch: Any, number: int) -> Any:
        if number + 1 >= step:
            raise error
        return gradients(self, batch, number)

    monkeypatch.setattr(Trainer, "gradients", fail)


def reason(made: dict[str, Any]) -> str:
    with pytest.raises(NotTrainedError, match="its encoder was not trained: ") as raised:
        load_encoder(made["out"])
    return str(raised.value)


def statuses(made: dict[str, Any]) -> list[str]:
    return [row["status"] for row in attempts_module.read(Path(made["checkpoints"], "attempts.csv"))]


@pytest.mark.parametrize(("step", "n_lines"), [(1, 0), (3, 2)])
def test_a_step_that_fails_is_the_reason_at_once(
    arguments: Made, monkeypatch: pytest.MonkeyPatch, step: int, n_lines: int
) -> None:
    made = arguments()
    with monkeypatch.context() as patch:
        fail_from(patch, step, MemoryError())
        assert run_pretrain(**made, attempt=1, attempts=5) == 0
        assert f"step {step}: out of memory; try settings.token_budget" in reason(made)
        assert len(read_csv(made["metrics"])) == n_lines
        with pytest.raises(UserError, match="out of memory"):
            run_pretrain(**made)  # by hand: an error
    assert run_pretrain(**made) == 0
    load_encoder(made["out"])


def test_an_unexpected_error_is_the_reason_after_the_last_attempt(
    arguments: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = arguments()
    fail_from(monkeypatch, 2, RuntimeError("shape mismatch"))
    for attempt in (1, 2):
        with pytest.raises(RuntimeError, match="shape mismatch"):
            run_pretrain(**made, attempt=attempt, attempts=3)
        assert not Path(made["out"]).exists()
    assert run_pretrain(**made, attempt=3, attempts=3) == 0
    assert "shape mismatch" in reason(made)


def test_kills_are_the_reason_in_the_last_attempt(arguments: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made = arguments()
    folder = Path(made["checkpoints"])
    for attempt in (1, 2):
        Attempts(folder, attempt)  # and no word of how it ended
    with monkeypatch.context() as patch:
        fail_from(patch, 1, AssertionError("nothing is trained"))
        assert run_pretrain(**made, attempt=3, attempts=3) == 0
    assert "killed from outside" in reason(made) and "out of memory" in reason(made)
    assert run_pretrain(**made, attempt=1, attempts=3) == 0
    load_encoder(made["out"])


def test_one_kill_is_none_too_many(arguments: Made) -> None:
    made = arguments()
    Attempts(Path(made["checkpoints"]), 2)
    assert run_pretrain(**made, attempt=3, attempts=3) == 0
    load_encoder(made["out"])


def test_bad_input_stops_at_once(arguments: Made) -> None:
    made = arguments(held_out_cells=90)
    for attempt, said in (
        (1, "settings.held_out_cells: 90"),
        (5, "not tried again: settings.held_out_cells"),
    ):
        with pytest.raises(UserError, match=said):
            run_pretrain(**made, attempt=attempt, attempts=5)
        assert not Path(made["out"]).exists()


@pytest.mark.parametrize(
    ("gpus", "device", "said"),
    [(0, "auto", "device: SLURM_JOB_GPUS=0, but PyTorch"), (8, "cpu", "8 GPUs asked for, PyTorch finds")],
)
def test_a_gpu_that_is_not_seen_is_not_asked_for_again(
    arguments: Made, monkeypatch: pytest.MonkeyPatch, gpus: int, device: str, said: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    made = arguments(device=device)
    with pytest.raises(UserError, match=said):
        run_pretrain(**made, gpus=gpus, attempts=5)
    assert statuses(made)[0].startswith(f"failed: {said}")
    if not gpus:
        with pytest.raises(UserError, match=f"not tried again: {said}"):
            run_pretrain(**made, gpus=gpus, attempt=2, attempts=5)
