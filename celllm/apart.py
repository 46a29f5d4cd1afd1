"""A command that outlives its own work: memory runs out in a child process, and the command can say so."""

import ctypes
import os
import signal
import sys
from types import FrameType

# Sent by whoever wants the command to end, not by what went wrong in it.
ASKED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def killed_by() -> int | None:
    """Let a child process go on from here.

    Returns
    -------
    None in the child, which does the work. The parent waits for it and ends as it does; this returns there
    only when the child crashed or was killed from outside, with the number of the signal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it does not outlive the command
            if os.getppid() != parent:
                os._exit(1)
        return None

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    ended = os.WTERMSIG(status)
    if ended in ASKED:
        signal.signal(ended, signal.SIG_DFL)
        os.kill(parent, ended)
    return ended
