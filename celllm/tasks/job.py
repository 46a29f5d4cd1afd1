"""One attempt at the fits of a row: it goes on after those of earlier attempts, and a kill becomes a row."""

import dataclasses
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celllm.apart import KilledError, run_apart
from celllm.errors import UserError
from celllm.interruption import EXIT_INTERRUPTED, Interrupted, StopRequest
from celllm.scores import scores
from celllm.tasks.fits import FitStore, Fitted
from celllm.training.attempts import Attempts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The fits of a row: number ``attempt`` of ``attempts``."""

    store: FitStore  # of its finished fits
    work: Callable[[FitStore], bool]  # makes the others, writes the scores; whether all came to their end
    attempt: int = 1
    attempts: int = 1

    def run(self, apart: bool) -> bool:
        """Do the work, in a child process where that is wanted; return what it returns.

        What the last attempt does not finish because it is killed is lost, with the reason as a row. After
        two that were killed it fits nothing: a scheduler may call every job failed in which something was
        killed.

        Raises
        ------
        KilledError
            When it is killed and is not the last attempt.
        Interrupted
            When a signal asked to stop. Besides, whatever the work raises.
        """
        try:
            with Attempts(self.store.folder, self.attempt, unit="fit") as attempts:
                return self._run(attempts, apart)
        except Exception as error:
            if not self.store.n_kept and not isinstance(error, KilledError):
                self.store.clear()  # nothing that another attempt could go on from
            raise

    def _run(self, attempts: Attempts, apart: bool) -> bool:
        attempts.started(self.store.n_kept)
        log.info("%d fits of an earlier attempt are kept", self.store.n_kept)
        is_last = self.attempt >= self.attempts
        if is_last and len(killed := attempts.kills()) > 1:
            return self._write_down(killed[0])
        try:
            return run_apart(self._until_stopped) if apart else self._until_stopped()
        except Interrupted as asked:
            log.warning(
                "%s: stopped with %d finished fits; the same command resumes", asked, self.store.n_kept
            )
            attempts.interrupted(self.store.n_kept)
            raise
        except KilledError as killed:
            attempts.killed(killed.number)
            if not is_last:
                raise
            return self._write_down(killed.number)

    def _until_stopped(self) -> bool:
        with StopRequest() as stop, stop.at_once():
            return self.work(self.store)

    def _write_down(self, killed_by: int) -> bool:
        return self.work(dataclasses.replace(self.store, lost=lost(killed_by)))


def run_all(jobs: Sequence[Job], apart: bool = False) -> int:
    """Do one row after the other, and give up what is kept of them once all are done.

    A row that is killed keeps none of the others from being scored: those that are finished are not fitted
    again by the next attempt.

    Returns
    -------
    0, or :data:`EXIT_INTERRUPTED` when a signal asked to stop.

    Raises
    ------
    UserError
        When a row was killed, and another attempt is left.
    """
    complete, killed = [], 0
    with StopRequest() as stop:
        for job in jobs:
            try:
                if stop.signal:
                    return EXIT_INTERRUPTED
                if job.run(apart):
                    complete.append(job)
            except Interrupted:
                return EXIT_INTERRUPTED
            except KilledError as error:
                killed = error.number
    if killed:
        n_kept = sum(job.store.n_kept for job in jobs)
        raise UserError(f"{lost(killed).reason}; {n_kept} finished fits are kept for the next attempt")
    for job in complete:
        job.store.clear()
    return 0


def lost(killed_by: int) -> Fitted:
    """What stands in for the fits that a killed process did not finish."""
    name = signal.Signals(killed_by).name
    if killed_by == signal.SIGKILL:
        reason = (
            f"killed from outside ({name}), as when memory runs out; give the job more (mem_mb in the "
            "profile), or lower token_budget or batch_size of its settings"
        )
        return Fitted(None, scores.OUT_OF_MEMORY, reason, 0.0, 0.0)
    return Fitted(None, scores.FAILED, f"the process crashed ({name})", 0.0, 0.0)
