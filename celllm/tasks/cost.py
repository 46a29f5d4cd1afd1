"""What a piece of work costs: seconds and the highest memory while it ran."""

import resource
import sys
import time
from pathlib import Path
from types import TracebackType

# Writing 5 here sets the high-water mark of the process back to what it holds now (Linux, proc(5)).
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Meter:
    """Measures what is done inside ``with Meter(...) as meter``.

    Parameters
    ----------
    on_gpu : bool
        Measure the memory of the current GPU instead of that of the process.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    peak_mib : float
        Highest memory meanwhile. Where the mark of a process cannot be set back, of its whole life so far.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0

    def __init__(self, on_gpu: bool = False) -> None:
        self.on_gpu = on_gpu

    def __enter__(self) -> "Meter":
        self._reset()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self.peak_mib = self._peak() / 2**20

    def _reset(self) -> None:
        if self.on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
        elif _CLEAR_REFS.exists():
            try:
                _CLEAR_REFS.write_text("5")
            except OSError:  # not allowed in some containers: the mark then stays where it was
                return

    def _peak(self) -> float:
        """Bytes."""
        if self.on_gpu:
            import torch

            return float(torch.cuda.max_memory_allocated())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 2**10
