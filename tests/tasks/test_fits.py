"""An interrupted row goes on after its last finished fit; one that was killed is a row all the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from celllm.methods.method import Probabilities
from celllm.model.weights import load_encoder, save_encoder
from celllm.scores import scores
from celllm.tasks.fits import FitStore, Fitted, Predicted
from celllm.tasks.runner import Runner
from tests.tasks.conftest import Files
from tests.tasks.test_annotation import QUICK, place, run, trained

# Counts its fits in a file, and is killed, crashes or waits at one of them.
METHOD = """
import os, signal, time
import numpy as np
from celllm.methods.method import Method, Probabilities
from celllm.methods.settings import NoSettings

def fit(train, settings, seed):
    with open("fits", "a") as log:
        log.write("fit\\n")
    made = len(open("fits").readlines())
    if made == int(os.environ.get("AT", 0)):
        if os.environ["DO"] == "wait":
            open("waiting", "w").close()
            time.sleep(600)
        os.kill(os.getpid(), int(os.environ["DO"]))
    classes, counts = np.unique(train.known, return_counts=True)
    draw = np.random.default_rng(seed)

    def predict(part):
        return Probabilities(draw.dirichlet(counts, len(part)), classes)
    return predict

METHOD = Method(fit, NoSettings)
"""
ROW = '{"name": "mine", "kind": "baseline", "method": "mine.py:METHOD"}'


def command(files: Files, *more: str) -> list[str]:
    words = ["score", "--cells", str(files.cells), "--data-set", "planted", "--genes", str(files.genes)]
    words += [
        "--splits",
        str(files.splits),
        "--model",
        ROW,
        "--protocols",
        "strict",
        "--out",
        "scores",
        "--apart",
    ]
    return [sys.executable, "-m", "celllm", *words, *more]


def environment(**more: Any) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in more.items()}


def start(files: Files, folder: Path, *more: str, **variables: Any) -> "subprocess.CompletedProcess[str]":
    (folder / "mine.py").write_text(METHOD)
    return subprocess.run(
        command(files, *more),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )


def attempt(number: int, of: int) -> list[str]:
    return ["--attempt", str(number), "--attempts", str(of)]


def results(folder: Path) -> tuple[pd.DataFrame, bytes]:
    """Scores without what they cost, and predictions to the byte."""
    beside = folder / "scores/annotation/planted/mine"
    frame = scores.read_many([beside / "strict.csv"]).drop(columns=["seconds", "peak_mib"])
    return frame, (beside / "strict.predictions.csv").read_bytes()


@pytest.fixture(scope="module")
def whole(files: Files, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    done = start(files, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "fits").read_text().count("fit") == 3
    assert not list(folder.rglob(".fits")), "the store goes when the scores are there"
    return results(folder)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_killed_attempt_keeps_its_fits_for_the_next(
    files: Files, tmp_path: Path, whole: tuple[pd.DataFrame, bytes], at: int
) -> None:
    killed = start(files, tmp_path, *attempt(1, 2), AT=at, DO=int(signal.SIGKILL))
    assert killed.returncode == 2
    last = killed.stderr.strip().splitlines()[-1]
    assert "killed from outside (SIGKILL)" in last and f"{at - 1} finished fits are kept" in last
    assert not (tmp_path / "scores/annotation").exists()
    assert start(files, tmp_path).returncode == 0
    frame, predictions = results(tmp_path)
    pd.testing.assert_frame_equal(frame, whole[0])
    assert predictions == whole[1]
    assert (tmp_path / "fits").read_text().count("fit") == 3 + 1  # the killed one twice
    assert not list(tmp_path.rglob(".fits/**/*.npz"))


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGKILL, scores.OUT_OF_MEMORY, "killed from outside (SIGKILL), as when memory runs out"),
        (signal.SIGSEGV, scores.FAILED, "the process crashed (SIGSEGV)"),
    ],
)
def test_the_last_attempt_writes_down_what_was_lost(
    files: Files, tmp_path: Path, whole: tuple[pd.DataFrame, bytes], number: int, status: str, words: str
) -> None:
    done = start(files, tmp_path, AT=2, DO=int(number))
    assert done.returncode == 0, done.stderr
    frame, _ = results(tmp_path)
    lost = frame[frame["split"].astype(str) != "0"]
    assert set(lost["status"]) == {status} and set(lost["split"].astype(str)) == {"1", "2"}
    assert lost["reason"].str.startswith(words).all()
    kept = frame[frame["split"].astype(str) == "0"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, whole[0].head(len(kept)))
    assert (tmp_path / "fits").read_text().count("fit") == 2, "nothing is fitted to write it down"
    again = start(files, tmp_path)  # forced, with more memory: what is missing
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "fits").read_text().count("fit") == 4
    pd.testing.assert_frame_equal(results(tmp_path)[0], whole[0])
    assert results(tmp_path)[1] == whole[1] and not list(tmp_path.rglob(".fits/**/*.npz"))


def test_after_two_kills_the_last_attempt_fits_nothing(
    files: Files, tmp_path: Path, whole: tuple[pd.DataFrame, bytes]
) -> None:
    """A scheduler that calls every job failed in which something was killed would never get a table."""
    for round_ in (1, 2):  # the second as after --forcerun: notes of the first do not count
        for number in (1, 2):
            killed = start(files, tmp_path, *attempt(number, 3), AT=2 * (round_ - 1) + number, DO=9)
            assert killed.returncode == 2, killed.stderr
        if round_ == 1:
            done = start(files, tmp_path, *attempt(3, 3), AT=1, DO=9)
            assert done.returncode == 0, done.stderr
            assert (tmp_path / "fits").read_text().count("fit") == 2
            assert set(results(tmp_path)[0]["status"]) == {scores.OUT_OF_MEMORY}
    assert start(files, tmp_path, *attempt(2, 3)).returncode == 0
    assert results(tmp_path)[1] == whole[1]


def wait_for(path: Path) -> None:
    until = time.time() + 60
    while not path.exists():
        assert time.time() < until
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_takes_its_work_along(
    files: Files, tmp_path: Path, whole: tuple[pd.DataFrame, bytes], number: signal.Signals
) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    running = subprocess.Popen(command(files), cwd=tmp_path, env=environment(AT=3, DO="wait"))
    wait_for(tmp_path / "waiting")
    (child,) = children_of(running.pid)
    running.send_signal(number)
    assert running.wait(timeout=60) == (75 if number == signal.SIGTERM else -number)
    until = time.time() + 30
    while Path(f"/proc/{child}").exists() and "zombie" not in Path(f"/proc/{child}/status").read_text():
        assert time.time() < until, "the child lives on"
        time.sleep(0.05)
    assert start(files, tmp_path).returncode == 0
    assert results(tmp_path)[1] == whole[1]
    assert (tmp_path / "fits").read_text().count("fit") == 4


@pytest.mark.parametrize("n_kept", [1, 2, 3, 5, 8])
def test_an_encoder_goes_on_bit_for_bit(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_kept: int
) -> None:
    """After a search, in the middle of one that a fit was read off, and after it."""
    model, how = trained(files), {"settings": {**QUICK, "epochs": 3}, "protocols": ["strict", "paper"]}
    run(files, tmp_path / "whole", model, **how)
    made, write = Runner.fitted, FitStore.write

    def interrupted(self: FitStore, *arguments: Any) -> None:
        write(self, *arguments)
        if self.n_kept == n_kept:
            raise KeyboardInterrupt

    monkeypatch.setattr(FitStore, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path / "again", model, **how)
    assert len(list(tmp_path.rglob(".fits/**/*.npz"))) == n_kept
    monkeypatch.setattr(FitStore, "write", write)
    counted: list[int] = []
    monkeypatch.setattr(Runner, "fitted", lambda self, *a: counted.append(1) or made(self, *a))
    run(files, tmp_path / "again", model, **how)
    # Two searches of each fold, strict's and paper's: all that are not kept
    assert len(counted) == 3 * 2 - (n_kept // 3 * 2 + (n_kept % 3 > 0))
    for protocol in ("strict", "paper"):
        one, other = (
            (place(tmp_path / name, model) / f"{protocol}.predictions.csv").read_bytes()
            for name in ("whole", "again")
        )
        assert one == other
        one, other = (
            scores.read_many([place(tmp_path / name, model) / f"{protocol}.csv"])
            for name in ("whole", "again")
        )
        pd.testing.assert_series_equal(one["value"], other["value"], check_exact=True)


FITTED = Fitted(
    Predicted(np.array([*"ab"]), Probabilities(np.array([[0.9, 0.1], [0.25, 0.75]]), np.array([*"ab"]))),
    scores.OK, "", 1.5, 20.0, {"epochs": 7}, Predicted(np.array(["b", "b"])),
)  # fmt: skip


def same(one: Fitted, other: Fitted) -> bool:
    facts = ("status", "reason", "seconds", "peak_mib", "chosen")
    assert one.predicted and other.predicted and one.last and other.last
    assert one.predicted.probabilities and other.predicted.probabilities
    arrays = [
        (one.predicted.values, other.predicted.values),
        (one.last.values, other.last.values),
        (one.predicted.probabilities.values, other.predicted.probabilities.values),
        (one.predicted.probabilities.classes, other.predicted.probabilities.classes),
    ]
    return all(getattr(one, n) == getattr(other, n) for n in facts) and all((a == b).all() for a, b in arrays)


def test_a_fit_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = FitStore(tmp_path, "id")
    store.write(tmp_path / "f.npz", FITTED)
    found = store.read(tmp_path / "f.npz")
    assert found is not None and same(found, FITTED)


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty", "text", "renamed"])
def test_a_damaged_fit_is_made_again(tmp_path: Path, spoil: str) -> None:
    store, file = FitStore(tmp_path, "id"), tmp_path / "f.npz"
    store.write(file, FITTED)
    if spoil == "renamed":
        file = file.rename(tmp_path / "g.npz")
    content = bytearray(file.read_bytes())
    where = bytes(content).index(np.array([0.25, 0.75]).tobytes())
    content[where] ^= 1
    if spoil != "renamed":
        file.write_bytes({"cut": content[:-40], "flip": content, "empty": b"", "text": b"hello"}[spoil])
    assert store.read(file) is None


def test_a_failed_fit_is_tried_again(tmp_path: Path) -> None:
    store = FitStore(tmp_path, "id")
    store.write(tmp_path / "f.npz", Fitted(None, scores.FAILED, "no", 1.0, 1.0))
    assert store.n_kept == 0


@pytest.mark.parametrize("change", ["settings", "seed", "encoder"])
def test_fits_of_other_settings_or_files_are_not_taken(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    model, how = trained(files), {"settings": {**QUICK, "epochs": 2}}
    if change == "encoder":
        model["encoder"] = str(tmp_path / "e.safetensors")
        Path(model["encoder"]).write_bytes(files.encoder.read_bytes())
    made, counted = Runner.fitted, []

    def fitted(self: Runner, *arguments: Any) -> Fitted:
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append(1)
        return made(self, *arguments)

    monkeypatch.setattr(Runner, "fitted", fitted)
    with pytest.raises(KeyboardInterrupt):
        run(files, tmp_path, model, **how)
    counted[:] = [1] * 3  # never interrupted again
    if change == "settings":
        how["settings"]["learning_rate"] = 0.004
    elif change == "seed":
        how["seed"] = 1
    else:
        encoder, meta = load_encoder(model["encoder"])
        with torch.no_grad():
            encoder.norm.weight[0] += 0.01
        save_encoder(model["encoder"], encoder, meta)
    run(files, tmp_path, model, **how)
    assert len(counted) == 3 + 6, "every fit was made anew"
