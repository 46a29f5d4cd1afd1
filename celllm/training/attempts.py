"""The starts of one job, in ``attempts.csv`` beside what it keeps: where, how long, how they ended."""

import csv
import os
import signal
import socket
import time
from pathlib import Path

from celllm.errors import UserError
from celllm.io import write_csv

COLUMNS = ("started", "host", "slurm_job", "attempt", "first_step", "last_step", "seconds", "status")
PATIENCE = 3
"""Interruptions one after the other that no step was finished between."""


class Attempts:
    """The present start of a training, or of the fits of a row (``unit``), among those before it.

    ``attempt`` is the number of times that a workflow has begun this job, this time included. Beyond the
    first, what failed by its input, and not by an interruption or a kill, is not tried again: that is a
    :class:`UserError` with the reason of the last failure.
    """

    def __init__(self, folder: Path, attempt: int = 1, unit: str = "step") -> None:
        self.path, self.unit = folder / "attempts.csv", unit
        self.rows = read(self.path)
        last = self.rows[-1]["status"] if self.rows else ""
        if attempt > 1 and last.startswith("failed: "):
            raise UserError(f"not tried again: {last.removeprefix('failed: ')}")
        self.began = time.monotonic()
        now = time.strftime("%Y-%m-%dT%H:%M:%S")
        job = os.environ.get("SLURM_JOB_ID", "")
        values = (now, socket.gethostname(), job, str(attempt), "", "", "0", "running")
        self.row = dict(zip(COLUMNS, values, strict=True))
        self.rows.append(self.row)
        self._write()

    def reached(self, step: int) -> None:
        """A checkpoint of this step is on disk."""
        self.row["last_step"] = str(step)
        self._write()

    def started(self, step: int) -> None:
        """Training goes on after this step."""
        self.row["first_step"] = self.row["last_step"] = str(step)
        self._write()

    def interrupted(self, step: int | None = None) -> None:
        """A signal has ended it, after this step (that of the last checkpoint).

        Raises :class:`UserError` when the last attempts have got nowhere: the job would go through the queue
        for ever.
        """
        self.row["status"] = "interrupted"
        if step is not None:
            self.row["last_step"] = str(step)
        self._write()
        last = self.rows[-PATIENCE:]
        if len(last) == PATIENCE and all(
            row["status"] == "interrupted" and row["first_step"] == row["last_step"] for row in last
        ):
            raise UserError(
                f"interrupted {PATIENCE} times before a {self.unit} was finished: ask for more time, or make "
                f"a {self.unit} shorter"
            )

    def killed(self, number: int) -> None:
        """Its work was ended by this signal."""
        self.row["status"] = f"killed by {signal.Signals(number).name}"

    def kills(self) -> list[int]:
        """Signals that ended the attempts before this one, back to the first that the workflow has begun.

        One that left no word was killed with all that could have written it.
        """
        found: list[int] = []
        for row in reversed(self.rows[:-1]):
            if self.row["attempt"] == "1":
                break
            if row["status"] == "running":
                found.insert(0, signal.SIGKILL)
            elif row["status"].startswith("killed by "):
                found.insert(0, signal.Signals[row["status"].removeprefix("killed by ")])
            if row["attempt"] == "1":
                break
        return found

    def __enter__(self) -> "Attempts":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self.row["status"] == "running":
            said = f"failed: {error}" if isinstance(error, UserError) else "ended"
            self.row["status"] = said if error else "finished"
        self._write()

    def _write(self) -> None:
        self.row["seconds"] = f"{time.monotonic() - self.began:.1f}"
        write_csv(self.path, COLUMNS, ([row[name] for name in COLUMNS] for row in self.rows))


def read(path: Path) -> list[dict[str, str]]:
    """Rows of an ``attempts.csv``; none where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
