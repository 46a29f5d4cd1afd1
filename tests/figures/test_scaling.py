from pathlib import Path

import pandas as pd
import pytest

from celllm.figures.figure import run_figure
from celllm.figures.scaling import COLUMNS, points_of
from celllm.figures.settings import FigureSettings
from celllm.report.published import load


def table(ours: dict[str, float | None]) -> pd.DataFrame:
    """Table B.2 with our means by row title, the paper's from its own table, one control."""
    lines = []
    for row in load().tables["tableb2"].rows:
        for column in ("zheng68k/macro_f1", "zheng68k/accuracy", "baron/macro_f1"):
            for protocol in ("strict", "paper"):
                mean = ours.get(row.title)
                reason = "" if mean else "out of memory"
                status = "ok" if mean else "out-of-memory"
                lines.append((row.title, column, protocol, mean, 1.0, 70.0, 0.5, status, reason))
    lines.append(("Random", "baron/macro_f1", "strict", 5.0, 1.0, None, None, "ok", ""))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def test_points_are_the_papers_once_and_ours_by_protocol() -> None:
    points = points_of(table({"CellLM 8M": 60.0, "CellLM 25M": 65.0, "CellLM 50M": 66.0}))
    macro = points[points["column"] == "zheng68k/macro_f1"]
    assert macro.groupby("source")["millions"].apply(list).to_dict() == {
        source: [8, 25, 50] for source in ("paper", "paper's own", "strict")
    }
    assert macro.loc[macro["source"] == "strict", "mean"].tolist() == [60, 65, 66]
    assert set(macro.loc[macro["source"] == "paper's own", "mean"]) == {70}


def test_curves_of_both_data_sets(tmp_path: Path, said, paper_size) -> None:
    frame = table({"CellLM 8M": 60.0, "CellLM 25M": 65.0, "CellLM 50M": 66.0})
    frame.to_csv(tmp_path / "tableb2.csv", index=False)
    run_figure("scaling", {"table": tmp_path / "tableb2.csv"}, tmp_path / "scaling", FigureSettings(toy=True))
    texts = said(tmp_path / "scaling")
    assert {"Zheng68K", "Baron", "8M", "25M", "50M", "paper", "here, strict"} <= set(texts)
    assert "macro F1 (%)" in texts
    assert not any("out of memory" in text for text in texts)
    assert paper_size(tmp_path / "scaling")[0] <= 178


@pytest.mark.parametrize("ours", [{}, {"CellLM 50M": 66.0}])
def test_missing_sizes_are_explained(ours: dict[str, float], tmp_path: Path, said) -> None:
    table(ours).to_csv(tmp_path / "tableb2.csv", index=False)
    run_figure(
        "scaling", {"table": tmp_path / "tableb2.csv"}, tmp_path / "scaling", settings=FigureSettings()
    )
    expected = "8M, 25M" + ("" if ours else ", 50M") + ": out of memory"
    assert said(tmp_path / "scaling").count(expected) == 2
