import os
import signal
import subprocess
import sys
import time
import traceback

import pytest

from celllm.apart import ASKED, KilledError, run_apart
from celllm.errors import UserError
from celllm.interruption import Interrupted, StopRequest


def test_what_is_done_apart_leaves_no_trace_here():
    def work():
        sys.modules["only_there"] = sys
        return os.getpid()

    assert run_apart(work) != os.getpid()
    assert "only_there" not in sys.modules


@pytest.mark.parametrize("error", [UserError("one line"), OSError(28, "no room", "file"), ValueError("odd")])
def test_an_error_is_raised_here(error):
    def work():
        raise error

    with pytest.raises(type(error), match=str(error.args[-1])) as raised:
        run_apart(work)
    assert getattr(raised.value, "errno", None) == getattr(error, "errno", None)
    assert "in work" in "".join(traceback.format_exception(raised.value)), "where it arose there"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
def test_a_killed_process_is_known_by_its_signal(number):
    with pytest.raises(KilledError) as raised:
        run_apart(lambda: os.kill(os.getpid(), number))
    assert raised.value.number == number


@pytest.mark.parametrize("number", ASKED)
def test_a_signal_reaches_the_child_and_this_process_has_its_handlers_back(number):
    handler = signal.getsignal(number)

    def work():
        with StopRequest() as stop, stop.at_once():
            os.kill(os.getppid(), number)
            time.sleep(60)

    with pytest.raises(Interrupted, match=number.name):
        run_apart(work)
    assert signal.getsignal(number) == handler


def test_an_answer_larger_than_a_pipe_comes_through() -> None:
    assert len(run_apart(lambda: "x" * 1_000_000)) == 1_000_000


SLOW_START = """
import os, signal, threading, time
from multiprocessing.process import BaseProcess
from celllm.apart import run_apart
from celllm.interruption import Interrupted
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # it has no signal blocked
start = BaseProcess.start
BaseProcess.start = lambda process: (start(process), time.sleep(0.5))
try:
    run_apart(lambda: (os.kill(os.getppid(), signal.SIGHUP), time.sleep(60)))
except Interrupted as error:
    print(error)
"""


def test_a_signal_while_the_child_starts_reaches_it_though_another_thread_takes_it() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW_START], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "SIGHUP\n"), done.stderr
