"""What a piece of work costs: seconds and the highest memory while it ran."""

import re
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

# Writing 5 here sets the high-water mark of the process back to what it holds now (Linux, proc(5)).
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


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
        if self._gpu is not None:
            self._gpu.reset_peak_memory_stats()
        elif _CLEAR_REFS.exists():
            with suppress(OSError):  # not allowed in some containers: the mark then stays where it was
                _CLEAR_REFS.write_text("5")
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.read()

    def read(self) -> None:
        """Set both to what they are by now."""
        self.seconds = time.perf_counter() - self._start
        self.peak_mib = self._gpu.max_memory_allocated() / 2**20 if self._gpu is not None else peak_mib()


def peak_mib() -> float:
    """Highest memory of this process, in MiB.

    On Linux it is read from the process's own status (proc(5)): ``getrusage`` never reports less than the
    program that started this one held, such as Snakemake's controller.
    """
    if _STATUS.exists():
        marks = re.findall(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if marks:
            return int(marks[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
