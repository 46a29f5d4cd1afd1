"""Being asked to stop: SIGTERM (a scheduler's time limit) and SIGUSR1 (``sbatch --signal=USR1@300``)."""

import signal
from types import FrameType

EXIT_INTERRUPTED = 75
"""Exit status after a checkpoint on request (EX_TEMPFAIL of sysexits.h): the same command resumes."""


class StopRequest:
    """Within its ``with`` block the two signals are remembered instead of ending the process.

    Attributes
    ----------
    signal
        Name of the signal received, or None.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.signal: str | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
