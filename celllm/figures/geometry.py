"""How the embeddings of unseen cells lie, with and without contrast: one panel per measure."""

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from celllm.figures import theme
from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.report import published as printed
from celllm.scores.columns import GEOMETRY

ROW = 7.0  # mm of a model
PANELS = {
    "mean_cosine": ("Mean cosine", "0: all directions"),
    "uniformity": ("Uniformity", "lower: more even"),
    "alignment": ("Alignment", "0: both passes alike"),
    "rank_share": ("Effective rank / dim (%)", "higher: more directions in use"),
}
KINDS = {"mean": "mean of the genes", "cls": "[CLS]"}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(settings: FigureSettings, table: str | Path) -> Drawing:
    """What ``celllm geometry`` measured of each encoder; models from top to bottom, a mark per data set."""
    rows = read_numbers(table, GEOMETRY, "geometry", text=("model", "data_set", "embedding"))
    return rows, lambda: _figure(rows, settings)


def _figure(rows: pd.DataFrame, settings: FigureSettings) -> Figure:
    title = "Geometry of cell embeddings"
    if rows.empty:
        return theme.gap(title, "No encoder was measured", settings.toy)
    # Encoders of different lengths can only be compared by the share of their directions that is in use.
    rows = rows.assign(rank_share=100 * rows["effective_rank"] / rows["dim"])
    models, data_sets = (list(dict.fromkeys(rows[name])) for name in ("model", "data_set"))
    head, foot = 17 + theme.NOTE_LINE * settings.toy, 17
    height = head + ROW * len(models) + foot
    figure = theme.blank(theme.PAGE_WIDTH, height)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, measure in zip(panels, PANELS, strict=True):
        _panel(axes, rows, measure, models, data_sets)
    titles = [textwrap.fill(theme.short(settings.title(model), 52), 26) for model in models]
    panels[0].set_yticks(range(len(models)), titles)
    panels[0].set_ylim(len(models) - 0.5, -0.5)
    theme.literal(panels[0].get_yticklabels())
    marks = [theme.mark(**_look(number, kind)) for number in range(len(data_sets)) for kind in KINDS]
    shown = [theme.short(printed.data_set_title(data_set), 24) for data_set in data_sets]
    names = [f"{data_set}, {kind}" for data_set in shown for kind in KINDS.values()]
    theme.legend(figure, marks, names, ncols=4, handletextpad=0.2)
    longest = max(len(line) for title in titles for line in title.split("\n"))
    left = 0.02 + 0.6 * theme.TYPE / 72 / theme.MM * longest / theme.PAGE_WIDTH
    figure.subplots_adjust(left=left, right=0.985, top=1 - head / height, bottom=foot / height, wspace=0.12)
    n = int(rows["n_cells"].max())
    note = f"Up to {n:,} cells of each data set, seen by no encoder before"
    theme.headed(figure, title, [note], settings.toy)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, measure: str, models: list[str], data_sets: list[str]) -> None:
    for (data_set, kind), marks in rows.groupby(["data_set", "embedding"], sort=False):
        number = data_sets.index(data_set)
        shift = 0.3 * (number - (len(data_sets) - 1) / 2) / max(1, len(data_sets) - 1)
        axes.plot(marks[measure], marks["model"].map(models.index) + shift, **_look(number, kind))
    name, meaning = PANELS[measure]
    axes.set_title(name, fontsize=theme.TYPE, weight="normal", pad=11)
    # In points above the axes: a share of their height would run into the title of a tall figure.
    axes.annotate(
        meaning, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
        fontsize=theme.SMALLEST_TYPE + 0.5, color=theme.SOFT,
    )  # fmt: skip
    axes.grid(axis="x", color=theme.GRID, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    axes.tick_params(length=2, color=theme.INK)
    axes.locator_params(axis="x", nbins=4)


def _look(number: int, kind: str) -> dict[str, Any]:
    colour, marker = theme.PALETTE[number % len(theme.PALETTE)], _MARKERS[number % len(_MARKERS)]
    face = colour if kind == "mean" else "white"
    return {"color": colour, "marker": marker, "markersize": 4.5, "linestyle": "", "mfc": face, "mew": 0.9}
