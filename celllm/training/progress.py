"""What a training run reports: one CSV row per step, a line now and then, a bar on a terminal."""

import csv
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from celllm import meter
from celllm.io import atomic, write_csv
from celllm.training.columns import LOSSES, STEPS

log = logging.getLogger(__name__)


class Metrics:
    """The table of all steps, one line each, written as they come.

    Lines of steps after ``step``, the steps that count as done, are dropped: a run that was killed before its
    next checkpoint did them, and they come again. Steps up to it that have no line get an empty one, and a
    warning.
    """

    def __init__(self, path: str | Path, step: int) -> None:
        self.path = Path(path)
        found = {}
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as handle:
                rows = list(csv.DictReader(handle))
            # A last line that was cut off by a kill is passed over.
            whole = (row for row in rows if None not in row.values() and row["peak_mib"])
            found = {int(row["step"]): row for row in whole}
        if lost := [number for number in range(1, step + 1) if number not in found]:
            text = "%s: the lines of %d of %d steps were lost, the first that of step %d; they stay empty"
            log.warning(text, path, len(lost), step, lost[0])
        rows = [found.get(number, {"step": str(number)}) for number in range(1, step + 1)]
        write_csv(self.path, STEPS, ([row.get(name, "") for name in STEPS] for row in rows))
        self.handle = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115
        self.writer = csv.DictWriter(self.handle, STEPS, lineterminator="\n")

    def add(self, row: Mapping[str, float | int]) -> None:
        """Write the row of a step; columns it lacks stay empty."""
        short = {name: f"{x:.9g}" if isinstance(x, float) else x for name, x in row.items()}
        self.writer.writerow(short)
        self.handle.flush()

    def copy(self, path: str | Path) -> None:
        """Put a copy of the table, as it is, at ``path``."""
        with atomic(path) as partial:
            shutil.copyfile(self.path, partial)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()


class Progress(ExitStack):
    """Lines in the log every ``log_steps`` steps, and a bar when standard error is a terminal.

    ``step`` of ``n_steps`` are done already. ``silent``: report nothing, in a process that is not the first.
    """

    def __init__(self, n_steps: int, step: int, log_steps: int, silent: bool = False) -> None:
        super().__init__()
        self.n_steps, self.log_steps, self.silent = n_steps, log_steps, silent
        self.first, self.start = step, time.monotonic()
        hidden = silent or not sys.stderr.isatty()
        self.bar = self.enter_context(
            tqdm(total=n_steps, initial=step, unit="step", disable=hidden, dynamic_ncols=True)
        )
        self.enter_context(logging_redirect_tqdm())

    def add(self, row: Mapping[str, float | int]) -> None:
        """Report the step with these metrics."""
        self.bar.update()
        step = int(row["step"])
        if self.silent or (step % self.log_steps and step != self.n_steps):
            return
        per_step = (time.monotonic() - self.start) / (step - self.first)
        losses = "  ".join(f"{name} {row[name]:.4f}" for name in LOSSES if name in row)
        speed = f"{row['flops_per_second'] / 1e9:.4g} GFLOP/s"
        speed += f" ({row['utilisation']:.0%})" if "utilisation" in row else ""
        log.info(
            "step %d/%d  loss %.4f (%s)  %.1f cells/s  %.0f tokens/s  %s  peak %.0f MiB  %s left",
            *(step, self.n_steps, row["loss"], losses, row["cells_per_second"], row["tokens_per_second"]),
            *(speed, row["peak_mib"], duration(per_step * (self.n_steps - step))),
        )


def duration(seconds: float) -> str:
    """Seconds as ``2 h 05 min``, ``5 min 09 s`` or ``9 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def peak_mib(device: torch.device) -> float:
    """Largest memory in use so far, in MiB: of the GPU, or of this process where it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return meter.peak_mib()
