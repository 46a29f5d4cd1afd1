"""t-SNE of the embeddings of an annotated data set, coloured by type and by error."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from celllm.figures import theme
from celllm.figures.fig3 import lineage
from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.report import published as printed
from celllm.scores.columns import EMBEDDING_MAP

PANEL = 84.0  # mm
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
STATES = {"": "#eceff3", "right": "#b9c2cd", "wrong": theme.PALETTE[1]}  # "": in no split's test part
MANY = 40  # types above which names are written at the smallest size


def draw(settings: FigureSettings, table: str | Path) -> Drawing:
    """Places, labels and predictions of the cells from ``celllm embedding-map``, and two panels of them."""
    cells = read_numbers(table, EMBEDDING_MAP, "embedding-map", text=("cell", "label", "predicted"))
    return cells, lambda: _figure(cells, settings)


def _figure(cells: pd.DataFrame, settings: FigureSettings) -> Figure:
    """Two panels of the same cells, and the types' names in columns below them."""
    title = f"{printed.data_set_title(settings.data_set)}, embeddings of {settings.title('celllm')}"
    if cells.empty:
        return theme.gap(title, "No cell to show", settings.toy)
    names = printed.load().classes.get(settings.data_set, {})
    looks = looks_of(lineage(cells["label"].value_counts(), names))
    few = len(looks) <= MANY
    columns, pitch, size = (4, 3.6, theme.TYPE - 0.5) if few else (6, 2.6, theme.SMALLEST_TYPE)
    foot = 4 + math.ceil(len(looks) / columns) * pitch  # mm
    height = 20 + PANEL * 0.86 + foot
    width = theme.PAGE_WIDTH
    figure = theme.blank(width, height)
    by_type, by_error = (
        figure.add_axes((left / width, foot / height, PANEL / width, PANEL * 0.86 / height))
        for left in (2, 2 + PANEL + 6)
    )
    for label, (colour, marker) in looks.items():
        of_type = cells[cells["label"] == label]
        theme.scatter(by_type, of_type["x"], of_type["y"], colour, marker, len(cells))
    right = cells["label"] == cells["predicted"]
    states = right.map({True: "right", False: "wrong"}).mask(cells["predicted"] == "", "")
    for state, colour in STATES.items():
        some = cells[states == state]
        theme.scatter(by_error, some["x"], some["y"], colour, n=len(cells))
    for axes in (by_type, by_error):  # later points must not move the frame
        axes.margins(0.04)
    by_type.set_title("Type", fontsize=theme.TYPE, weight="normal", pad=3)
    tested, wrong = int((states != "").sum()), int((states == "wrong").sum())
    counted = "No predictions: the model failed on every split"
    if tested:
        by = f", protocol {settings.protocol}" if settings.protocol else ""
        counted = f"Wrongly classified: {wrong:,} of {tested:,} ({100 * wrong / tested:.1f} %){by}"
    by_error.set_title(counted, fontsize=theme.TYPE, weight="normal", pad=3)
    dots = [
        theme.mark(linestyle="", marker=marker, markersize=size * 0.6, color=colour, mew=0)
        for colour, marker in looks.values()
    ]
    theme.legend(
        figure, dots, [theme.short(names.get(label, label), 34) for label in looks], loc="upper left",
        bbox_to_anchor=(0.0, (foot - 1) / height), ncols=columns, fontsize=size, handletextpad=0.1,
        columnspacing=1.0, labelspacing=max(0.1, pitch / (size * 0.3528) - 1.15), borderpad=0.2,
    )  # fmt: skip
    lines = [f"t-SNE of {len(cells):,} cells: mean of the pre-trained encoder's gene vectors, no label seen"]
    theme.headed(figure, title, lines, settings.toy)
    return figure


def looks_of(labels: list[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each type: alike only for types more than 70 places apart."""
    colours = theme.PALETTE[:7]  # without black
    n = len(colours)
    return {label: (colours[i % n], MARKERS[(i // n) % len(MARKERS)]) for i, label in enumerate(labels)}
