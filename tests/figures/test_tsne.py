from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from celllm.figures.figure import run_figure
from celllm.figures.settings import FigureSettings
from celllm.figures.theme import SMALLEST_TYPE
from celllm.figures.tsne import looks_of
from celllm.scores.columns import EMBEDDING_MAP
from celllm.settings import as_settings

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draw cells of these labels and predictions; gives the path without suffix."""

    def make(labels: list[str], predicted: list[str], data_set: str = "baron", **settings) -> Path:
        places = np.random.default_rng(0).normal(size=(len(labels), 2)).T
        names = [f"c{i}" for i in range(len(labels))]
        frame = pd.DataFrame(dict(zip(EMBEDDING_MAP, [names, labels, predicted, *places], strict=True)))
        frame.to_csv(tmp_path / "map.csv", index=False)
        chosen = {"titles": {"celllm": "CellLM"}} | settings
        run_figure(
            f"tsne_{data_set}",
            {"table": tmp_path / "map.csv"},
            tmp_path / "tsne",
            as_settings(FigureSettings, chosen),
        )
        return tmp_path / "tsne"

    return make


def test_types_and_errors(draw: Draw, said, paper_size) -> None:
    out = draw(["alpha", "beta", "beta", "new"], ["alpha", "alpha", "beta", ""], protocol="strict", toy=True)
    texts = said(out)
    assert "Wrongly classified: 1 of 3 (33.3 %), protocol strict" in texts
    assert [text for text in texts if text in ("Alpha", "Beta", "new")] == ["Alpha", "Beta", "new"]
    assert "Baron, embeddings of CellLM (toy)" in texts
    assert tuple(pd.read_csv(f"{out}.csv").columns) == EMBEDDING_MAP
    assert paper_size(out)[0] == pytest.approx(178, abs=0.2)


def test_a_model_that_failed_everywhere(draw: Draw, said) -> None:
    texts = said(draw(["alpha", "beta"], ["", ""]))
    assert "No predictions: the model failed on every split" in texts


def test_no_cell_leaves_an_explained_gap(draw: Draw, said) -> None:
    assert "No cell to show" in said(draw([], []))


def test_odd_names_and_one_type(draw: Draw, said) -> None:
    names = ["a$b$c", "x_y^2 & <tag>", "naïve\tT", "nan", "1", "w" * 60]
    texts = said(draw(names, names))
    for name in ("a$b$c", "x_y^2 & <tag>", "naïve T", "nan", "1", "w" * 33 + "…"):
        assert name in texts
    assert "Wrongly classified: 0 of 6 (0.0 %)" in texts
    assert "alone" in said(draw(["alone"], ["alone"]))


@pytest.mark.slow
def test_two_hundred_types_stay_legible(draw: Draw, said, paper_size) -> None:
    names = [f"type {i:03d}" for i in range(200)]
    out = draw(names, names, data_set="atlas")
    assert [text for text in said(out) if text.startswith("type ")] == names
    assert f"{SMALLEST_TYPE:g}px" in Path(f"{out}.svg").read_text()
    width, height = paper_size(out)
    # 34 lines of names below the panels, none over another.
    assert width == pytest.approx(178, abs=0.2) and height > 90 + 34 * SMALLEST_TYPE * 0.3528 * 1.1


def test_no_two_types_of_a_page_look_alike() -> None:
    looks = looks_of([str(i) for i in range(70)])
    assert len(set(looks.values())) == 70
