"""What a piece of work costs: seconds and the highest memory while it ran."""

import resource
import sys
import time
from pathlib import Path
from types import TracebackType

# Writing 5 here sets the high-water mark of the process back to what it holds now (Linux, proc(5)).
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Meter:
    """Measures what is done inside ``with Meter() as meter``.

    Memory is that of the current GPU where this process uses one, else that of the process.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    peak_mib : float
        Highest memory meanwhile. Where the mark of a process cannot be set back, of its whole life so far.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0

    def __enter__(self) -> "Meter":
        torch = sys.modules.get("torch")
        self._gpu = torch.cuda if torch is not None and torch.cuda.is_initialized() else None
        self._reset()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self.peak_mib = self._peak() / 2**20

    def _reset(self) -> None:
        if self._gpu is not None:
            self._gpu.reset_peak_memory_stats()
        elif _CLEAR_REFS.exists():
            try:
                _CLEAR_REFS.write_text("5")
            except OSError:  # not allowed in some containers: the mark then stays where it was
                return

    def _peak(self) -> float:
        """Bytes."""
        if self._gpu is not None:
            return float(self._gpu.max_memory_allocated())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 2**10
