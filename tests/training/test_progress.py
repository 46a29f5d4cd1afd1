"""The table of all steps after a kill: each step once, and one whose line was lost to be seen."""

from pathlib import Path

import pytest

from celllm.io import read_csv
from celllm.training.progress import Metrics


def row(step: int) -> dict[str, float | int]:
    return {"step": step, "epoch": 0, "n_cells": 4, "loss": step + 0.5, "peak_mib": 9.0}


def table(path: Path, steps: range) -> None:
    with Metrics(path, 0) as metrics:
        for step in steps:
            metrics.add(row(step))


@pytest.mark.parametrize("step", [1, 4, 6])
def test_goes_on_at_the_step_of_the_checkpoint(tmp_path: Path, step: int) -> None:
    whole, again = tmp_path / "whole.csv", tmp_path / "again.csv"
    table(whole, range(1, 9))
    table(again, range(1, 7))
    with Metrics(again, step) as metrics:
        for number in range(step + 1, 9):
            metrics.add(row(number))
    assert again.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("cut", range(12, 60, 6))
def test_a_lost_line_stays_to_be_seen(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.csv"
    table(path, range(1, 6))
    path.write_bytes(path.read_bytes()[:-cut])
    for _ in range(2):  # also when it is opened again
        with Metrics(path, 5):
            pass
    found = read_csv(path)
    assert found["step"].tolist() == ["1", "2", "3", "4", "5"]
    lost = found.loc[found["loss"] == "", "step"].tolist()
    assert lost and lost == [str(step) for step in range(int(lost[0]), 6)]
    assert f"{len(lost)} of 5 steps were lost, the first that of step {lost[0]}" in caplog.text
