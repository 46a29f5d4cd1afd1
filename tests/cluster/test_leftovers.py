"""The lock of a Snakemake that was killed goes with the next command; that of a living one stays."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celllm import leftovers
from tests.places import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / leftovers.LOCKS).mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock"):
        (tmp_path / leftovers.LOCKS / name).write_text("x\n")
    return tmp_path


def locks() -> int:
    return len(list(leftovers.LOCKS.iterdir()))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("change", "n_left"),
    [
        ({}, 2),  # this process lives
        ({"process": 2**22 + 1}, 0),
        ({"began": "1"}, 0),  # another process has got its number
        ({"process": 2**22 + 1, "host": "elsewhere"}, 2),
        ({"process": 2**22 + 1, "locks": ["0.input.lock"]}, 1),
    ],
)
def test_a_lock_goes_with_its_process(folder: Path, change: dict[str, object], n_left: int) -> None:
    leftovers.write_down()
    (note,) = leftovers.RUNS.iterdir()
    facts = json.loads(note.read_text())
    assert facts["process"] == os.getpid() and facts["host"] == socket.gethostname()
    note.write_text(json.dumps(facts | change))
    leftovers.remove_stale()
    assert locks() == n_left


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_half_a_note_removes_nothing(folder: Path, text: str) -> None:
    leftovers.write_down()
    (note,) = leftovers.RUNS.iterdir()
    note.write_text(text)
    leftovers.remove_stale()
    assert locks() == 2


@pytest.mark.slow
def test_after_sigkill_the_same_command_works(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    command += ["--directory", str(tmp_path), "--workflow-profile", str(ROOT / "profiles/default")]
    command += ["--configfile", str(ROOT / "config/toy.yaml"), "--", "results/toy/prepared/genes.tsv"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.time() + 120
    while not list(tmp_path.glob(".snakemake/celllm-runs/*.json")):
        assert time.time() < until and running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGSTOP)  # alive, and holding its lock
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode != 0 and "--unlock" in second.stdout + second.stderr
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert list(tmp_path.glob(".snakemake/locks/*"))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"Snakemake was killed here (process {running.pid}); its lock is removed" in again.stderr
    assert (tmp_path / "results/toy/prepared/genes.tsv").exists()
