"""Score files with known numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from celllm.report.claims import run_claims
from celllm.report.manifest import run_manifest
from celllm.report.page import run_report
from celllm.report.settings import ClaimSettings, ManifestSettings, RunLabel, TableSettings
from celllm.report.tables import run_table
from celllm.scores.scores import OK, Score, write
from celllm.settings import as_settings

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>'

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


@pytest.fixture
def report(tmp_path: Path, score_file, spread, models):
    """Write a report of Table 1 and of Table D.1 (with no facts), one figure, the ledger and a manifest."""
    values = {
        (model, data_set, protocol, metric): spread(mean, 0.01)
        for model, mean in (("celllm", 0.71), ("scbert", 0.75), ("logistic", 0.60))
        for data_set in ("zheng68k", "baron")
        for protocol in ("strict", "paper")
        for metric in ("macro_f1", "weighted_f1", "accuracy")
    }
    scores = [score_file(values)]
    (tmp_path / "fig3_zheng68k.svg").write_text(SVG)
    (tmp_path / "fig3_zheng68k.png").write_bytes(b"\x89PNG")

    def make(toy: bool = False) -> Path:
        settings = {"run": "test", "toy": toy}
        for name in ("table1", "tabled1"):
            run_table(name, scores, models, as_settings(TableSettings, settings), tmp_path / name)
        run_claims(scores, models, as_settings(ClaimSettings, settings), tmp_path / "claims")
        run_manifest({"seed": 1}, as_settings(ManifestSettings, settings), tmp_path / "manifest.json")
        tables = [tmp_path / "table1.csv", tmp_path / "tabled1.csv"]
        figures = [tmp_path / "fig3_zheng68k.png", tmp_path / "fig3_zheng68k.svg"]
        claims, manifest, out = tmp_path / "claims.csv", tmp_path / "manifest.json", tmp_path / "report.html"
        run_report(tables, figures, claims, manifest, as_settings(RunLabel, settings), out)
        return out

    return make
