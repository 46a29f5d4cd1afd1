"""Being interrupted by a scheduler: SIGTERM, and SIGUSR1 of ``sbatch --signal=USR1@300``.

A time limit, a preemption, ``scancel`` and ``scontrol requeue`` all begin with SIGTERM to every process of
the job, and SIGKILL follows half a minute later: time for a checkpoint, but not for the rest of a long step.
"""

import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

EXIT_INTERRUPTED = 75
"""Exit status after an interruption (EX_TEMPFAIL of sysexits.h): the same command resumes."""

SECONDS_TO_FOLLOW = 15
"""For the other processes of a training to reach the one that writes the checkpoint."""


class Interrupted(BaseException):
    """A signal asked to stop; what is finished is kept."""


class StopRequest:
    """Within its ``with`` block the two signals do not end the process: they are remembered, or raise.

    Parameters
    ----------
    follower
        A process that has nothing to save: it goes on, so that the one that has does not wait for it in
        vain, and ends by itself a little later.

    Attributes
    ----------
    signal
        Name of the signal received, or None.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, follower: bool = False) -> None:
        self.signal: str | None = None
        self.follower = follower
        self._raises = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that may be broken off anywhere: a signal, now or earlier, raises :class:`Interrupted`."""
        try:
            self._raises = not self.follower
            if self._raises and self.signal:
                raise Interrupted(self.signal)
            yield
        finally:
            self._raises = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        if self.follower:
            # It may hang in a collective operation, where no Python code runs
            signal.alarm(SECONDS_TO_FOLLOW)
        if self._raises:
            self._raises = False
            raise Interrupted(self.signal)


def requeue() -> None:
    """Send the SLURM job of this process back into the queue; nothing without SLURM.

    Nothing either for a job that was cancelled, that SLURM requeues by itself, or that was submitted with
    ``--no-requeue``, and in a process that torchrun started: its launcher sees to that.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or "RANK" in os.environ:
        return
    fields = dict(re.findall(r"(\w+)=(\S*)", _told("scontrol", "show", "job", job)))
    ending = fields.get("JobState") == "RUNNING" or fields.get("Reason") == "TimeLimit"
    if ending and fields.get("BatchFlag") == "1" and fields.get("Requeue") == "1":
        log.warning("SLURM job %s goes back into the queue %s", job, _told("scontrol", "requeue", job))


def _told(*command: str) -> str:
    """What a command says on both streams; a cluster without it is no reason to fail."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({error})"
    return (done.stdout + done.stderr).strip()
