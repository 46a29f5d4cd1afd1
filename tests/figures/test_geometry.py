from pathlib import Path

import pandas as pd
import pytest

from celllm.figures.figure import run_figure
from celllm.figures.settings import FigureSettings
from celllm.scores.columns import GEOMETRY
from celllm.settings import as_settings


def rows(models: list[str], data_sets: list[str]) -> pd.DataFrame:
    numbers = [
        (m, d, kind, 32, 512, 0.9 - 0.01 * i, -0.5, 0.01, 4.0 + i)
        for i, m in enumerate(models)
        for d in data_sets
        for kind in ("mean", "cls")
    ]
    return pd.DataFrame(numbers, columns=list(GEOMETRY))


def test_a_panel_for_each_measure(tmp_path: Path, said, paper_size) -> None:
    rows(["celllm", "celllm_wo_cl"], ["zheng68k", "baron"]).to_csv(tmp_path / "geometry.csv", index=False)
    settings = {"toy": True, "titles": {"celllm": "CellLM $50$"}}
    run_figure(
        "geometry",
        {"table": tmp_path / "geometry.csv"},
        tmp_path / "figure",
        as_settings(FigureSettings, settings),
    )
    texts = said(tmp_path / "figure")
    assert {"Mean cosine", "Uniformity", "Alignment", "Effective rank / dim (%)"} <= set(texts)
    assert {"CellLM $50$", "celllm_wo_cl", "Zheng68K, [CLS]", "Baron, mean of the genes"} <= set(texts)
    assert len(pd.read_csv(tmp_path / "figure.csv")) == 8
    assert paper_size(tmp_path / "figure")[0] == pytest.approx(178, abs=0.2)


@pytest.mark.parametrize("models", [[], ["one"], [f"model {i}" for i in range(12)]])
def test_none_one_and_many_models(models: list[str], tmp_path: Path, said) -> None:
    rows(models, ["a_b", "x$y$"]).to_csv(tmp_path / "geometry.csv", index=False)
    run_figure(
        "geometry", {"table": tmp_path / "geometry.csv"}, tmp_path / "figure", settings=FigureSettings()
    )
    texts = said(tmp_path / "figure")
    assert set(models) <= set(texts)
    assert models or "No encoder was measured" in texts
