"""Several rows in one command: what they share is the reading of the data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.scores import scores
from celllm.tasks.runner import read_rows
from tests.tasks.conftest import Files
from tests.tasks.test_annotation import run

# `hog` keeps 400 MiB for good and imports a module; `frail` is killed, raises or waits at fit AT.
METHOD = """
import os, sys, time
import numpy as np
from celllm.methods import controls
from celllm.methods.method import Method
from celllm.methods.settings import NoSettings

KEPT = []

def hog(train, settings, seed):
    import wave
    KEPT.append(np.ones(50 * 2**20))
    return controls.fit_majority(train, settings, seed)

def frail(train, settings, seed):
    assert "wave" not in sys.modules and not KEPT
    with open("frail", "a") as log:
        log.write("fit\\n")
    if len(open("frail").readlines()) == int(os.environ.get("AT", 2)):
        if os.environ["DO"] == "raise":
            raise ValueError("odd")
        if os.environ["DO"] == "wait":
            open("waiting", "w").close()
            time.sleep(600)
        os.kill(os.getpid(), int(os.environ["DO"]))
    return controls.fit_majority(train, settings, seed)

HOG, FRAIL = Method(hog, NoSettings), Method(frail, NoSettings)
"""
HOG = {"name": "hog", "kind": "baseline", "method": "mine.py:HOG"}
FRAIL = {"name": "frail", "kind": "baseline", "method": "mine.py:FRAIL"}
MAJORITY = {"name": "majority", "kind": "baseline"}
SVM = {"name": "svm", "kind": "baseline", "method": "linear_svm", "settings": {"c": 0.1, "grid": [0.1, 1]}}
NAMES = ("hog", "frail", "majority", "svm")


def process(files: Files, folder: Path, *more: str, **variables: Any) -> "subprocess.Popen[str]":
    (folder / "mine.py").write_text(METHOD)
    words = ["score", "--cells", str(files.cells), "--data-set", "planted", "--genes", str(files.genes)]
    words += ["--splits", str(files.splits), "--protocols", "strict", "paper", "--out", "scores", "--apart"]
    words += ["--model", json.dumps([HOG, FRAIL, MAJORITY, SVM]), *more]
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "celllm", *words], cwd=folder, env=environment, stderr=pipe, text=True
    )


def start(files: Files, folder: Path, *more: str, **variables: Any) -> tuple[int, str]:
    """Exit status and last line."""
    running = process(files, folder, *more, **variables)
    said = running.communicate(timeout=300)[1]
    return running.returncode, said.strip().splitlines()[-1]


def frame(folder: Path, name: str, protocol: str = "strict") -> pd.DataFrame:
    found = scores.read_many([folder / f"scores/annotation/planted/{name}/{protocol}.csv"])
    return found.drop(columns=["seconds", "peak_mib"])


def statuses(folder: Path, name: str) -> dict[str, str]:
    found = frame(folder, name)
    return dict(zip(found["split"].astype(str), found["status"], strict=True))


def n_fits(folder: Path) -> int:
    return (folder / "frail").read_text().count("fit")


@pytest.mark.parametrize(
    ("what", "status", "lost"),
    [
        (9, "out-of-memory", {"1", "2"}),
        (signal.SIGSEGV.value, "failed", {"1", "2"}),
        ("raise", "failed", {"1"}),
    ],
)
def test_rows_failures_and_costs_stay_apart(
    files: Files, tmp_path: Path, what: object, status: str, lost: set[str]
) -> None:
    assert start(files, tmp_path, DO=what)[0] == 0
    found = {name: frame(tmp_path, name) for name in NAMES}
    assert all(set(one["model"]) == {name} for name, one in found.items())
    assert statuses(tmp_path, "frail") == {split: status if split in lost else "ok" for split in "012"}
    assert all(set(found[name]["status"]) == {"ok"} for name in NAMES if name != "frail")
    for row in (MAJORITY, SVM):
        settings = row.get("settings")
        run(files, tmp_path / "one", {k: v for k, v in row.items() if k != "settings"}, settings=settings)
        alone = scores.read_many([tmp_path / f"one/annotation/planted/{row['name']}/strict.csv"])
        pd.testing.assert_frame_equal(found[str(row["name"])], alone.drop(columns=["seconds", "peak_mib"]))
    peaks = {
        name: scores.read_many([tmp_path / f"scores/annotation/planted/{name}/strict.csv"])["peak_mib"].max()
        for name in NAMES
    }
    assert peaks["hog"] > peaks["majority"] + 380
    kept = {path.parent.name for path in tmp_path.rglob("*.npz") if ".fits" in path.parts}
    assert kept == {"frail"}, "what an incomplete row has stays for a second try"


def test_a_killed_row_is_fitted_again_by_the_next_attempt_and_the_others_are_not(
    files: Files, tmp_path: Path
) -> None:
    status, last = start(files, tmp_path, "--attempt", "1", "--attempts", "3", DO=9)
    assert status == 2
    assert "killed from outside (SIGKILL)" in last and "finished fits are kept for the next attempt" in last
    assert statuses(tmp_path, "svm") == dict.fromkeys("012", "ok"), "rows behind it are scored all the same"
    fits = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(".fits/**/*.npz")}
    assert {path.parent.name for path in fits} == set(NAMES)
    assert start(files, tmp_path, "--attempt", "2", "--attempts", "3", AT=4, DO=9)[0] == 2
    assert {path: path.stat().st_mtime_ns for path in fits} == fits, "none is made again"
    assert start(files, tmp_path, "--attempt", "3", "--attempts", "3", DO=9)[0] == 0
    assert n_fits(tmp_path) == 4, "after two kills nothing is fitted"
    assert statuses(tmp_path, "frail") == {"0": "ok", "1": "ok", "2": "out-of-memory"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_an_ended_command_goes_on_after_the_last_finished_fit(
    files: Files, tmp_path: Path, number: signal.Signals
) -> None:
    running = process(files, tmp_path, AT=2, DO="wait")
    until = time.time() + 120
    while not (tmp_path / "waiting").exists():
        assert time.time() < until
        time.sleep(0.05)
    running.send_signal(number)
    assert running.wait(timeout=60) == (-number if number == signal.SIGKILL else 75)
    assert not (tmp_path / "scores/annotation/planted/majority").exists(), "no row is begun after that"
    assert start(files, tmp_path, AT=0, DO=0)[0] == 0
    assert n_fits(tmp_path) == 4, "a fit of each fold, and the one that was broken off"
    assert all(statuses(tmp_path, name) == dict.fromkeys("012", "ok") for name in NAMES)
    assert not list(tmp_path.rglob(".fits"))


@pytest.mark.parametrize(
    "rows", [[], [MAJORITY, MAJORITY], [MAJORITY, 3], "[", '"majority"', "3", [{"name": "x"}]]
)
def test_odd_lists_are_refused(rows: Any) -> None:
    with pytest.raises(UserError, match="model: "):
        read_rows(rows)
