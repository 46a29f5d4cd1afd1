"""Work in a child process: what is killed there does not take along the command that waits for it."""

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import TypeVar

from celllm.interruption import Interrupted

T = TypeVar("T")

# Sent by whoever wants the command to end, not by what went wrong in it.
ASKED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class KilledError(Exception):
    """A child process crashed or was killed from outside, by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"a child process was ended by {signal.Signals(number).name}")
        self.number = number


def run_apart(work: Callable[[], T]) -> T:
    """Do work in a child process: the memory that it takes and what it imports are gone afterwards.

    The child gets the signals that ask this process to end, and ends with it in any case. This process must
    not have used threads or a GPU. What ``work`` returns or raises is pickled, and small.

    Raises
    ------
    KilledError
        When the child crashes or is killed.
    Interrupted
        When a signal asked it to end. Besides, whatever ``work`` raises.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_report, args=(work, there, os.getpid()))
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child.pid:
            os.kill(child.pid, number)
        else:
            early.append(number)

    # No signal gets lost: here the handlers stand before the child, which has them blocked until its own do.
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
    before = {number: signal.signal(number, pass_on) for number in ASKED}
    child.start()
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    for number in early:  # another thread can take them meanwhile
        pass_on(number, None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
    there.close()
    try:
        answer = here.recv()  # before the child ends: it cannot while its answer fills the pipe
    except EOFError:
        answer = None
    child.join()
    for number, handler in before.items():
        signal.signal(number, handler)
    if answer is None:
        ended = -int(child.exitcode or -signal.SIGKILL)
        if ended in (*ASKED, signal.SIGINT):
            raise Interrupted(signal.Signals(ended).name)
        raise KilledError(ended)
    found, error = answer
    if error is not None:
        raise error
    return found


def _report(work: Callable[[], T], to: Connection, parent: int) -> None:
    for number in ASKED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it does not outlive the command
        if os.getppid() != parent:
            os._exit(1)
    try:
        to.send((work(), None))
    except (Exception, Interrupted, KeyboardInterrupt) as error:  # noqa: BLE001 - the parent raises it
        error.add_note("".join(traceback.format_exception(error))[-20_000:])  # for a saved traceback
        to.send((None, error))
