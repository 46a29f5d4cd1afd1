import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from celllm.errors import UserError
from celllm.figures.fig3 import confusion, shares
from celllm.figures.figure import run_figure
from celllm.figures.settings import FigureSettings
from celllm.figures.theme import MM, PALETTE, SMALLEST_TYPE, short, theme
from celllm.report.run import TOY_NOTE
from celllm.scores.scores import write_predictions
from celllm.settings import as_settings

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Draw the heatmap of (label, predicted) pairs; gives the path without suffix."""

    def make(pairs: Sequence[tuple[str, str]], data_set: str = "baron", **settings) -> Path:
        path = tmp_path / "strict.predictions.csv"
        write_predictions(path, [(f"cell{i}", str(i % 5), a, b) for i, (a, b) in enumerate(pairs)])
        out = tmp_path / "figures" / "fig3"
        run_figure(
            f"fig3_{data_set}",
            {"predictions": path},
            out,
            as_settings(FigureSettings, {"titles": {"celllm": "CellLM"}} | settings),
        )
        return out

    return make


def texts(out: Path) -> list[str]:
    tree = ElementTree.parse(f"{out}.svg")
    return ["".join(node.itertext()).strip() for node in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_numbers_beside_the_picture(draw: Draw) -> None:
    pairs = [("beta", "beta")] * 3 + [("beta", "alpha")] + [("alpha", "alpha")] * 2
    frame = pd.read_csv(f"{draw(pairs)}.csv")
    assert list(frame.columns) == ["label", "predicted", "count", "share"]
    assert frame.to_dict("list") == {
        "label": ["Alpha", "Alpha", "Beta", "Beta"],
        "predicted": ["Alpha", "Beta", "Alpha", "Beta"],
        "count": [2, 0, 1, 3],
        "share": [1.0, 0.0, 0.25, 0.75],
    }


def test_picture_has_print_size_and_searchable_text(draw: Draw) -> None:
    pairs = [("beta", "beta")] * 3 + [("beta", "activated_stellate")] + [("activated_stellate", "beta")]
    out = draw(pairs, toy=True, protocol="strict")
    with Image.open(f"{out}.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        width, height = (pixels / 300 / MM for pixels in image.size)
    assert 80 <= width <= 178 and 40 <= height <= 178  # mm: within a page
    said = texts(out)
    assert "Baron, CellLM (toy)" in said
    assert TOY_NOTE.capitalize() in said
    assert said.count("Activated Stellate") == 2
    assert any(text.startswith("5 cells in 5 splits; protocol strict") for text in said)
    assert {"75", "25", "100", "3", "1"} <= set(said)


def test_classes_stand_in_order_of_lineage_unknown_ones_by_frequency() -> None:
    labels = ["mast", "new", "new", "alpha", "other"]
    frame = pd.DataFrame({"label": labels, "predicted": ["alpha", "new", "other", "mast", "other"]})
    names = {"alpha": "Alpha", "beta": "Beta", "mast": "Mast"}
    assert list(confusion(frame, names).index) == ["alpha", "mast", "new", "other"]
    assert list(confusion(frame, {}).index) == ["new", "alpha", "mast", "other"]


def test_a_class_that_nobody_has_is_told_not_divided_by() -> None:
    frame = pd.DataFrame({"label": ["a", "a"], "predicted": ["a", "b"]})
    share = shares(confusion(frame, {}))
    assert share[0].tolist() == [0.5, 0.5]
    assert np.isnan(share[1]).all()


def test_it_says_so_in_the_picture(draw: Draw) -> None:
    assert "no cell has this label" in texts(draw([("alpha", "beta")]))


def test_one_class(draw: Draw) -> None:
    out = draw([("alpha", "alpha")] * 4)
    assert pd.read_csv(f"{out}.csv")["share"].tolist() == [1.0]
    assert "100" in texts(out)


def test_odd_names_are_taken_as_they_are(draw: Draw) -> None:
    names = ["a$b$c", "x_y^2 & <tag>", "naïve\tT", "β", " ", "%s {0} \\alpha"]
    said = texts(draw([(name, name) for name in names], data_set="my $set$"))
    for name in ("a$b$c", "x_y^2 & <tag>", "naïve T", "β", "(empty)", "%s {0} \\alpha"):
        assert name in said
    assert "my $set$, CellLM" in said


@pytest.mark.slow
def test_two_hundred_classes_stay_legible(draw: Draw) -> None:
    """Every class has its name on both axes, at the smallest legible type, with room for it."""
    names = [f"class {i:03d}" for i in range(200)]
    out = draw([(name, names[(i * 7) % 200]) for i, name in enumerate(names)], data_set="atlas")
    svg = Path(f"{out}.svg").read_text()
    assert texts(out).count("class 123") == 2
    assert svg.count(f"font-size: {SMALLEST_TYPE:g}px") >= 400
    with Image.open(f"{out}.png") as image:
        pitch = image.size[1] / 300 * 72 / 260  # pt per class, with margins counted generously
    assert pitch > SMALLEST_TYPE


def test_a_model_that_failed_everywhere_leaves_an_explained_gap(draw: Draw) -> None:
    out = draw([])
    assert "No predictions: the model failed on every split." in texts(out)
    assert pd.read_csv(f"{out}.csv").empty
    assert Path(f"{out}.png").stat().st_size > 1000


def test_the_same_predictions_give_the_same_svg(draw: Draw) -> None:
    pairs = [("alpha", "beta"), ("beta", "beta")]
    first = Path(f"{draw(pairs)}.svg").read_bytes()
    assert Path(f"{draw(pairs)}.svg").read_bytes() == first


def test_unknown_figures_and_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figure 'fig5': no such figure; known are fig3_DATA_SET, fig4"):
        run_figure("fig5", {}, tmp_path / "out", settings=FigureSettings())
    with pytest.raises(UserError, match="figure 'fig3': no such figure"):
        run_figure("fig3", {"predictions": tmp_path}, tmp_path / "out", settings=FigureSettings())
    with pytest.raises(UserError, match=r"figure fig4: inputs: .*'facts'; expected table=FILE, facts=FILE"):
        run_figure("fig4", {"table": tmp_path}, tmp_path / "out", settings=FigureSettings())
    with pytest.raises(UserError, match=r"settings.colour: unknown key 'colour'"):
        run_figure(
            "fig4",
            {"table": tmp_path, "facts": tmp_path},
            tmp_path / "out",
            as_settings(FigureSettings, {"colour": "red"}),
        )


def test_the_theme_ends_with_its_block() -> None:
    import matplotlib

    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["svg.fonttype"]
    with theme():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["svg.fonttype"]) == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [("T cell", "T cell"), ("a\n\x07b", "a b"), ("x" * 50, "x" * 39 + "…"), ("", "(empty)")],
)
def test_short_names(name: str, shown: str) -> None:
    assert short(name) == shown
