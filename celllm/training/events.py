"""TensorBoard events of a training run, where tensorboard is installed; nothing at all without it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from celllm.model.settings import MEASURES
from celllm.training.columns import LOSSES

_POSITION = ("step", "epoch")
_GROUPS = dict.fromkeys(("loss", *LOSSES), "loss") | dict.fromkeys(MEASURES, "geometry")


class Events:
    """Writes the metrics of every step as scalars, under ``loss/``, ``geometry/`` and ``run/``.

    Events of an earlier start after ``step``, the steps that count as done, are marked as void: these steps
    come again.
    """

    def __init__(self, folder: str | Path, step: int) -> None:
        self.writer: Any = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, row: Mapping[str, float | int]) -> None:
        """Write the metrics of a step."""
        if self.writer is None:
            return
        step = int(row["step"])
        for name, value in row.items():
            if name not in _POSITION:
                self.writer.add_scalar(f"{_GROUPS.get(name, 'run')}/{name}", value, step)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
