import json
from pathlib import Path

import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.figures.figure import run_figure
from celllm.figures.settings import FigureSettings
from celllm.scores.columns import MEMORY


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [("fitted", "favor", "end_to_end", 256, 50, 18000.0, 18000.0)]
    for attention in ("favor", "released"):
        rows += [("curve", attention, "end_to_end", n, 40000 // n - 20, None, 1.0) for n in (2, 256, 2048)]
        rows += [("curve", attention, "divide_and_conquer", n, 90000, None, 1.0) for n in (2, 256, 2048)]
    path = tmp_path / "memory.csv"
    pd.DataFrame(rows, columns=list(MEMORY)).to_csv(path, index=False)
    return path


def draw(table: Path, out: Path, budget: float = 40.0) -> None:
    facts = table.parent / "facts.json"
    facts.write_text(json.dumps({"memory": {"budget_gib": budget, "tracker": "CUDA"}}))
    run_figure("fig4", {"table": table, "facts": facts}, out, settings=FigureSettings())


def test_curves_and_the_papers_points(table: Path, tmp_path: Path, said, paper_size) -> None:
    draw(table, tmp_path / "fig4", 24)
    points = pd.read_csv(tmp_path / "fig4.csv")
    assert list(points.columns) == ["source", "attention", "contrast", "n_cells", "length"]
    # No cell of any length fits end-to-end at 2,048 cells.
    assert len(points) == 2 * (2 + 3) + 2
    paper = points[points["source"] == "paper"].set_index("contrast")["length"].to_dict()
    assert paper == {"end_to_end": 50, "divide_and_conquer": 13000}
    texts = said(tmp_path / "fig4")
    assert {"Fig. 4: longest cell in 24 GiB", "paper: 50", "paper: 13,000"} <= set(texts)
    assert {"end-to-end,", "divide-and-conquer,", "released attention"} <= set(texts)
    assert any("the vocabulary: 19,379" in text for text in texts)
    width, height = paper_size(tmp_path / "fig4")
    assert width <= 178 and height <= 120


def test_nothing_fits(table: Path, tmp_path: Path, said) -> None:
    frame = pd.read_csv(table)
    frame.assign(length=0).to_csv(table, index=False)
    draw(table, tmp_path / "fig4")
    assert set(pd.read_csv(tmp_path / "fig4.csv")["source"]) == {"paper"}
    assert "paper: 50" in said(tmp_path / "fig4")


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column 'what'; make it with `celllm memory`"):
        draw(tmp_path / "other.csv", tmp_path / "fig4")
    with pytest.raises(UserError, match="no such file"):
        draw(tmp_path / "none.csv", tmp_path / "fig4")
