"""Score files with known numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from celllm.evaluation.scores import OK, Score, write

MODELS = {
    "scanpy": {"title": "Scanpy", "group": "paper"},
    "scbert": {"title": "scBERT", "group": "paper"},
    "celllm_wo_cl": {"title": "CellLM w/o CL", "group": "paper"},
    "celllm_moco": {"title": "CellLM MoCo", "group": "paper"},
    "celllm": {"title": "CellLM", "group": "paper"},
    "logistic": {"title": "L1 logistic_regression & more", "group": "control"},
}

# Deviations with mean 0 and sample standard deviation 1, so that a score of mean m and spread s is m + s * d.
DEVIATIONS = (-1.2649110640673518, -0.6324555320336759, 0.0, 0.6324555320336759, 1.2649110640673518)

Values = Mapping[tuple[str, str, str, str], Sequence[float]]
Failures = Mapping[tuple[str, str, str, str], Mapping[int, tuple[str, str]]]
ScoreFile = Callable[..., Path]


@pytest.fixture
def models() -> dict[str, dict[str, str]]:
    return {name: dict(row) for name, row in MODELS.items()}


@pytest.fixture
def spread() -> Callable[[float, float], list[float]]:
    """Five values with the mean and the sample standard deviation asked for."""
    return lambda mean, sd: [mean + sd * d for d in DEVIATIONS]


@pytest.fixture
def score_file(tmp_path: Path) -> ScoreFile:
    """Write a score file: (model, data set, protocol, metric) -> values by split, and failures by split."""

    def make(
        values: Values, failures: Failures | None = None, task: str = "annotation", name: str = "scores"
    ) -> Path:
        rows = [
            _score(task, key, split, value, OK, "")
            for key, series in values.items()
            for split, value in enumerate(series)
        ]
        for key, splits in (failures or {}).items():
            rows += [
                _score(task, key, split, None, status, reason) for split, (status, reason) in splits.items()
            ]
        path = tmp_path / f"{name}.csv"
        write(path, rows)
        return path

    return make


def _score(
    task: str, key: tuple[str, str, str, str], split: int, value: float | None, status: str, reason: str
) -> Score:
    model, data_set, protocol, metric = key
    return Score(
        table="table1", task=task, data_set=data_set, model=model, protocol=protocol, split=str(split),
        seed=0, metric=metric, value=value, status=status, seconds=1.0, peak_mib=10.0, reason=reason,
    )  # fmt: skip
