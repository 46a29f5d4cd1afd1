"""TensorBoard events of a training run, where tensorboard is installed; nothing at all without it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from celllm.model.settings import MEASURES
from celllm.training.columns import LOSSES

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_POSITION = ("step", "epoch")
_GROUPS = dict.fromkeys(("loss", *LOSSES), "loss") | dict.fromkeys(MEASURES, "geometry")


class Events:
    """Writes the metrics of every step as scalars, under ``loss/``, ``geometry/`` and ``run/``.

    Parameters
    ----------
    folder
        Of the event files. Events of an earlier start after ``step`` are marked as void: these steps come
        again.
    step
        Steps that count as done.
    """

    def __init__(self, folder: str | Path, step: int) -> None:
        self.writer = _writer(Path(folder), step)

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


def _writer(folder: Path, step: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
