"""What a person sees while the workflow runs: one line that says where it is, failures in full above it.

Snakemake's own output goes to its log file. ``snakemake --verbose`` shows it instead of the line.
"""

import logging
import shutil
import sys
import time
from collections import Counter
from typing import Any, TextIO

# Without a terminal, as in a batch job, the line cannot be redrawn: it is printed at most this often.
SECONDS_BETWEEN_LINES = 20.0


class LiveView(logging.Handler):
    """Stand in for the handler that prints Snakemake's records; warnings and errors still go to that one."""

    def __init__(self, plain: logging.Handler, total: int, log: str, stream: TextIO | None = None) -> None:
        super().__init__()
        self.plain, self.total, self.log = plain, total, log
        self.stream = stream or sys.stderr
        self.done, self.failed = 0, 0
        self.running: dict[int, tuple[str, str]] = {}
        self.started, self.shown = time.time(), 0.0
        self._print(f"{total} jobs; Snakemake's own log: {log}")

    def emit(self, record: Any) -> None:
        """Take note of a record and redraw; a warning or an error is printed as Snakemake would."""
        event = str(getattr(record, "event", "") or "").lower()
        if event == "job_info":
            words = "/".join(str(word) for word in record.wildcards.values())
            self.running[record.jobid] = (
                record.rule_name,
                words if len(words) <= 40 else f"...{words[-37:]}",
            )
        elif event == "job_finished":
            self.running.pop(record.job_id, None)
        elif event == "job_error":
            self.running.pop(record.jobid, None)
            self.failed += 1
        elif event == "progress":
            self.done, self.total = record.done, record.total
        if record.levelno >= logging.WARNING:
            self._clear()
            self.plain.handle(record)
            self.shown = 0.0
        elif event not in ("job_info", "job_finished", "progress"):
            return  # what Snakemake says at length
        if event == "progress" and self.done == self.total:
            self._clear()
            self._print(f"{self.done} of {self.total} jobs done in {_duration(time.time() - self.started)}")
        else:
            self._show()

    def close(self) -> None:
        """Leave no half line behind."""
        self._clear()
        super().close()

    def line(self) -> str:
        """Jobs done, failures, what runs, when it may be over."""
        parts = [f"[{self.done:{len(str(self.total))}}/{self.total}]"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        now, elapsed = time.time(), time.time() - self.started
        if self.done >= 5 and self.done < self.total:
            end = now + elapsed / self.done * (self.total - self.done)
            day = "%H:%M" if end - now < 12 * 3600 else "%d %b %H:%M"
            parts.append(f"ends at about {time.strftime(day, time.localtime(end))}")
        if len(self.running) <= 2:
            running = [f"{rule} {words}".strip() for rule, words in self.running.values()]
        else:
            counted = Counter(rule for rule, _ in self.running.values())
            running = [rule if n == 1 else f"{rule} x {n}" for rule, n in counted.most_common()]
        return "  ".join([*parts, ", ".join(running)])

    def _show(self) -> None:
        if self.stream.isatty():
            self._clear()
            self.stream.write(self.line()[: shutil.get_terminal_size().columns - 1])
            self.stream.flush()
        elif time.time() - self.shown >= SECONDS_BETWEEN_LINES:
            self.shown = time.time()
            self._print(self.line())

    def _clear(self) -> None:
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")

    def _print(self, text: str) -> None:
        self.stream.write(f"{text}\n")
        self.stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def show(logger: logging.Logger, total: int, log: str) -> None:
    """Put the view in the place of the handler that prints Snakemake's records."""
    for handler in list(logger.handlers):
        if handler.name == "DefaultStreamHandler":
            logger.removeHandler(handler)
            logger.addHandler(LiveView(handler, total, log))
