"""Checkpoints: complete or absent, readable without running code, written by one process at a time.

A checkpoint is one safetensors file: tensors by name, and everything else as JSON in its header. The last two
are kept. They live outside the outputs that a workflow declares, since a workflow empties those on a restart.
"""

import fcntl
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from celllm import tensors
from celllm.errors import UserError

log = logging.getLogger(__name__)

FORMAT = "celllm-checkpoint-2"
KEPT = 2


@dataclass(frozen=True)
class State:
    """Everything that a training run needs to resume."""

    step: int  # optimiser steps done
    tensors: dict[str, Tensor]  # parameters, buffers and optimiser state by name
    values: dict[str, Any]  # what is not a tensor, as JSON values


@contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Hold the folder of checkpoints for this process; the lock goes with the process, however that ends.

    Raises :class:`UserError` when another process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another process is training into this folder; wait for it or choose another"
            ) from error
        for leftover in folder.glob(".partial-*"):  # of a process that was killed while it wrote
            leftover.unlink()
        yield


def save(folder: str | Path, state: State, config: Mapping[str, Any]) -> Path:
    """Write a checkpoint, then remove all but the last two; ``config`` as in :func:`load`."""
    path = Path(folder) / f"step-{state.step:09d}.safetensors"
    tensors.write(path, FORMAT, state.tensors, step=state.step, values=state.values, config=config)
    for old in _paths(folder)[:-KEPT]:
        old.unlink()
    return path


def load(folder: str | Path, config: Mapping[str, Any]) -> State | None:
    """Read the last checkpoint of a folder; None when there is none.

    ``config`` holds JSON values that a run must share to resume from a checkpoint.

    What a *finished* training of another configuration left is removed: its encoder is written, and the
    workflow asks for a new one. An unfinished one is never touched.

    Raises :class:`UserError` when it is of an unfinished training of another configuration (the message names
    the first field that differs), or none of the checkpoints can be read.
    """
    paths = _paths(folder)
    for path in reversed(paths):
        try:
            header, found = tensors.read(path, FORMAT, "checkpoint; expected what 'celllm pretrain' writes")
        except UserError as error:
            log.warning("%s; using the checkpoint before it", error)
            continue
        # The first field in which the two configurations differ.
        saved, current = _flat(header["config"]), _flat(json.loads(json.dumps(config)))
        names = sorted(saved.keys() | current.keys())
        name = next((name for name in names if saved.get(name) != current.get(name)), None)
        if name is None:
            return State(header["step"], found, header["values"])
        difference = f"{name} was {saved.get(name)!r}, now it is {current.get(name)!r}"
        if not header["values"].get("finished"):
            raise UserError(
                f"{path}: checkpoint of another configuration: {difference}; restore it, or remove the "
                "folder to start anew"
            )
        log.info("%s: of a finished training in which %s; a new one starts", folder, difference)
        for old in paths:
            old.unlink()
        (Path(folder) / "metrics.csv").unlink(missing_ok=True)
        shutil.rmtree(Path(folder) / "events", ignore_errors=True)
        return None
    if paths:
        raise UserError(f"{folder}: none of its checkpoints can be read; remove them to start over")
    return None


def steps(folder: str | Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    return [int(path.stem.removeprefix("step-")) for path in _paths(folder)]


def _paths(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob("step-*.safetensors"))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a prefix to their names."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names have the prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser as ``<parameter's number>.<name>``; its settings are not part of it."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimiser_tensors` gave; the settings stay those of ``optimiser``."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
