import subprocess
import sys
import time

import numpy as np
import pytest

from celllm.meter import _CLEAR_REFS, Meter


def test_seconds() -> None:
    with Meter() as meter:
        time.sleep(0.05)
    assert 0.05 <= meter.seconds < 0.5


def test_a_failure_is_measured_too() -> None:
    meter = Meter()
    with pytest.raises(RuntimeError), meter:
        raise RuntimeError
    assert meter.peak_mib > 1


@pytest.mark.skipif(not _CLEAR_REFS.exists(), reason="the mark of a process can be set back on Linux only")
def test_the_peak_is_that_of_the_work_and_not_of_the_work_before() -> None:
    with Meter() as before:
        pass
    with Meter() as large:
        np.ones(200 * 2**20, dtype=np.uint8)
    with Meter() as after:
        pass
    assert large.peak_mib - before.peak_mib == pytest.approx(200, abs=30)
    assert after.peak_mib == pytest.approx(before.peak_mib, abs=30)


@pytest.mark.skipif(not _CLEAR_REFS.exists(), reason="only Linux keeps the mark of one program")
def test_the_peak_is_not_that_of_the_program_that_started_this_one() -> None:
    inner = "import celllm.meter; print(celllm.meter.peak_mib())"
    outer = (
        f"import subprocess, sys; ballast = b'1' * 2**28; subprocess.run([sys.executable, '-c', {inner!r}])"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 100
