import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from celllm.errors import UserError
from celllm.training import checkpoints
from celllm.training.checkpoints import (
    State,
    exclusive,
    load,
    load_optimiser,
    optimiser_tensors,
    prefixed,
    save,
    unprefixed,
)

CONFIG = {"settings": {"learning_rate": 1e-4, "seed": 0}, "corpus": {"n_cells": 5}}


def state(step: int) -> State:
    tensors = {"weight": torch.full((2, 3), float(step)), "half": torch.ones(2, dtype=torch.bfloat16)}
    return State(step, tensors, {"sampler": {"epoch": 1, "position": step}})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, state(3), CONFIG)
    found = load(tmp_path, CONFIG)
    assert found.step == 3
    assert found.values == {"sampler": {"epoch": 1, "position": 3}}
    assert all(torch.equal(found.tensors[name], value) for name, value in state(3).tensors.items())
    assert found.tensors["half"].dtype == torch.bfloat16


def test_an_empty_folder_holds_none(tmp_path: Path) -> None:
    assert load(tmp_path, CONFIG) is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9_999_999):
        save(tmp_path, state(step), CONFIG)
    assert checkpoints.steps(tmp_path) == [10, 9_999_999]
    assert load(tmp_path, CONFIG).step == 9_999_999


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"half", b"flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, state(1), CONFIG)
    path = save(tmp_path, state(2), CONFIG)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes({b"half": whole[:-7], b"flipped": flipped}.get(content, content))
    assert load(tmp_path, CONFIG).step == 1
    save(tmp_path, state(1), CONFIG).write_bytes(b"")
    with pytest.raises(UserError, match="none of its checkpoints can be read"):
        load(tmp_path, CONFIG)


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, state(1), CONFIG)
    before = sorted(tmp_path.iterdir())

    def half_a_file(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", half_a_file)
    with pytest.raises(UserError, match="the disk is full; make room, then run the same command again"):
        save(tmp_path, state(2), CONFIG)
    assert sorted(tmp_path.iterdir()) == before
    assert load(tmp_path, CONFIG).step == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            CONFIG | {"settings": {"learning_rate": 3e-4, "seed": 0}},
            "settings.learning_rate was 0.0001, now it is 0.0003",
        ),
        (CONFIG | {"corpus": {"n_cells": 6}}, "corpus.n_cells was 5, now it is 6"),
        (CONFIG | {"more": True}, "more was None, now it is True"),
    ],
)
def test_another_configuration_is_refused_by_name(tmp_path: Path, changed: dict, message: str) -> None:
    save(tmp_path, state(1), CONFIG)
    with pytest.raises(UserError, match=f"checkpoint of another configuration: {message}"):
        load(tmp_path, changed)


def test_what_a_finished_training_of_another_configuration_left_is_removed(tmp_path: Path) -> None:
    finished = state(2)
    finished.values["finished"] = True
    save(tmp_path, finished, CONFIG)
    assert load(tmp_path, CONFIG).step == 2
    assert load(tmp_path, CONFIG | {"corpus": {"n_cells": 6}}) is None
    assert checkpoints.steps(tmp_path) == []


def test_no_code_is_run_on_reading(tmp_path: Path) -> None:
    save(tmp_path, state(1), CONFIG)

    class Malicious:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    torch.save(Malicious(), tmp_path / "step-000000002.safetensors")
    assert load(tmp_path, CONFIG).step == 1
    assert not (tmp_path / "it-ran").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys; from celllm.training.checkpoints import exclusive\n"
        "with exclusive(sys.argv[1]):\n print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match="another process is training into this folder"),
            exclusive(tmp_path),
        ):
            pass
    finally:
        other.kill()
        other.wait()
    with exclusive(tmp_path):  # a killed process holds nothing
        pass


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".partial-abc.safetensors").write_bytes(b"half")
    with exclusive(tmp_path):
        assert not list(tmp_path.glob(".partial-*"))


def test_the_optimiser_goes_on_as_if_nothing_had_been() -> None:
    def trained(n_steps: int, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        for step in range(n_steps):
            optimiser.zero_grad()
            (model(torch.full((1, 3), step + 1.0)) ** 2).sum().backward()
            optimiser.step()

    torch.manual_seed(0)
    one = nn.Linear(3, 2)
    adam = torch.optim.Adam(one.parameters(), lr=0.1)
    trained(4, one, adam)
    saved = {name: value.clone() for name, value in optimiser_tensors(adam).items()}
    two = nn.Linear(3, 2)
    two.load_state_dict(one.state_dict())
    other = torch.optim.Adam(two.parameters(), lr=0.1)
    load_optimiser(other, saved)
    trained(3, one, adam)
    trained(3, two, other)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


def test_prefixes_come_off_again() -> None:
    tensors = {"a.b": torch.ones(1), "c": torch.zeros(1)}
    both = prefixed("model", tensors) | prefixed("mod", tensors)
    assert unprefixed("model", both) == tensors
