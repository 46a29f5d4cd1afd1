import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from celllm.errors import UserError
from celllm.figures.figure import run_figure
from celllm.figures.loss_curves import POINTS, curves
from celllm.figures.settings import FigureSettings
from celllm.figures.theme import MM
from celllm.report.run import TOY_NOTE
from celllm.settings import as_settings


def steps(n: int, contrast: bool = True) -> pd.DataFrame:
    falling = 2.0 - np.arange(n) / n
    return pd.DataFrame(
        {
            "step": range(1, n + 1),
            "loss": 9.0,
            "mlm": falling,
            "tumour": falling / 4,
            "contrast": 3 * falling if contrast else math.nan,
        }
    )


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A figure of two models, one without contrast; gives the path without suffix."""
    metrics = {}
    for name, contrast in (("celllm", True), ("plain", False)):
        metrics[name] = tmp_path / f"{name}.csv"
        steps(40, contrast).to_csv(metrics[name], index=False)
    out = tmp_path / "figures" / "loss_curves"
    run_figure(
        "loss_curves",
        metrics,
        out,
        as_settings(FigureSettings, {"toy": True, "titles": {"celllm": "CellLM $50$"}}),
    )
    return out


def test_points_are_means_of_all_steps() -> None:
    n = 2 * POINTS + 1
    points = curves(steps(n), "celllm")
    mlm = points[points["loss"] == "mlm"]
    assert list(mlm["n_steps"]) == [3] * (n // 3)
    assert list(mlm["step"]) == list(range(3, n + 1, 3))
    expected = steps(n)["mlm"].to_numpy().reshape(-1, 3).mean(1)
    assert mlm["value"].to_numpy() == pytest.approx(expected, rel=1e-12)
    assert list(curves(steps(POINTS), "celllm")["n_steps"].unique()) == [1]


def test_a_loss_that_a_model_lacks_has_no_line(drawn: Path) -> None:
    points = pd.read_csv(f"{drawn}.csv")
    assert list(points.columns) == ["model", "loss", "step", "value", "n_steps"]
    counts = points.groupby(["model", "loss"]).size().to_dict()
    of_both = {(model, loss): 40 for model in ("celllm", "plain") for loss in ("mlm", "tumour")}
    assert counts == of_both | {("celllm", "contrast"): 40}


def test_picture_fits_a_page_and_names_its_lines(drawn: Path) -> None:
    with Image.open(f"{drawn}.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        width, height = (pixels / 300 / MM for pixels in image.size)
    assert width == pytest.approx(178, abs=0.2)
    assert 40 <= height <= 100  # mm
    tree = ElementTree.parse(f"{drawn}.svg")
    said = ["".join(node.itertext()).strip() for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {
        "CellLM $50$",
        "plain",
        "Pre-training (toy)",
        TOY_NOTE.capitalize(),
        "Contrast (logarithmic)",
    } <= set(said)


def test_the_same_metrics_give_the_same_files(drawn: Path, tmp_path: Path) -> None:
    metrics = {name: tmp_path / f"{name}.csv" for name in ("celllm", "plain")}
    again = tmp_path / "again"
    run_figure(
        "loss_curves",
        metrics,
        again,
        as_settings(FigureSettings, {"toy": True, "titles": {"celllm": "CellLM $50$"}}),
    )
    for suffix in ("png", "svg", "csv"):
        assert Path(f"{again}.{suffix}").read_bytes() == Path(f"{drawn}.{suffix}").read_bytes()


def test_a_model_without_a_step_is_left_out(tmp_path: Path) -> None:
    steps(4).to_csv(tmp_path / "one.csv", index=False)
    steps(4).head(0).to_csv(tmp_path / "failed.csv", index=False)
    metrics = {name: tmp_path / f"{name}.csv" for name in ("one", "failed")}
    run_figure("loss_curves", metrics, tmp_path / "out", FigureSettings(toy=True))
    assert set(pd.read_csv(tmp_path / "out.csv")["model"]) == {"one"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", r"not a CSV file .*; make it with `celllm pretrain`"),
        ("step,value\n1,2\n", "no column 'mlm'; make it with `celllm pretrain`"),
        ("step,mlm,tumour,contrast\n", "no step in it"),
    ],
)
def test_other_files_are_told_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "metrics.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        run_figure("loss_curves", {"celllm": path}, tmp_path / "out", settings=FigureSettings())
