"""t-SNE of the embeddings of an annotated data set, coloured by type and by error."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from celllm.figures.confusion import data_set_title, lineage
from celllm.figures.numbers import read_numbers, write_figure
from celllm.figures.settings import PredictionsFigureSettings
from celllm.figures.theme import (
    PAGE_WIDTH,
    PALETTE,
    SMALLEST_TYPE,
    TYPE,
    blank,
    gap,
    headed,
    legend,
    mark,
    scatter,
    short,
)
from celllm.report import published as printed
from celllm.scores.columns import EMBEDDING_MAP
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANEL = 84.0  # mm
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
RIGHT, WRONG, UNTESTED = "#b9c2cd", PALETTE[1], "#eceff3"
MANY = 40  # types above which names are written at the smallest size


def run_embedding_map_figure(table: str | Path, out: str | Path, settings: Mapping[str, Any] | str) -> None:
    """Write ``<out>.png``, ``<out>.svg`` and the numbers behind them, ``<out>.csv``.

    Parameters
    ----------
    table
        What :func:`celllm.probes.cell_map.run_embedding_map` wrote.
    settings
        :class:`PredictionsFigureSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(PredictionsFigureSettings, settings, "embedding-map-figure: settings")
    cells = read_numbers(table, EMBEDDING_MAP, "embedding-map", text=("cell", "label", "predicted"))
    write_figure(out, cells, lambda: draw(cells, chosen))


def draw(cells: pd.DataFrame, settings: PredictionsFigureSettings) -> "Figure":
    """Two panels of the same cells, and the types' names beside them."""
    title = f"{data_set_title(settings.data_set)}, embeddings of {settings.model}"
    if cells.empty:
        return gap(title, "No cell to show", settings.toy)
    names = printed.load().classes.get(settings.data_set, {})
    looks = _looks(lineage(cells["label"].value_counts(), names))
    sheet = _Sheet.of(len(looks))
    figure = sheet.figure()
    by_type, by_error = (figure.add_axes(sheet.panel(number)) for number in range(2))
    for label, (colour, marker) in looks.items():
        of_type = cells[cells["label"] == label]
        scatter(by_type, of_type["x"], of_type["y"], colour, marker, len(cells))
    for state, colour in {"": UNTESTED, "right": RIGHT, "wrong": WRONG}.items():
        some = cells[_states(cells) == state]
        scatter(by_error, some["x"], some["y"], colour, n=len(cells))
    for axes in (by_type, by_error):  # later points must not move the frame
        axes.margins(0.04)
    by_type.set_title("Type", fontsize=TYPE, weight="normal", pad=3)
    by_error.set_title(_error_title(cells, settings), fontsize=TYPE, weight="normal", pad=3)
    _legend(figure, {short(names.get(label, label), 34): look for label, look in looks.items()}, sheet)
    lines = [f"t-SNE of {len(cells):,} cells: mean of the pre-trained encoder's gene vectors, no label seen"]
    headed(figure, title, lines, settings.toy)
    return figure


def _states(cells: pd.DataFrame) -> "pd.Series[str]":
    """``right``, ``wrong``, or nothing where no split tested the cell."""
    same = cells["label"] == cells["predicted"]
    return same.map({True: "right", False: "wrong"}).mask(cells["predicted"] == "", "")


def _error_title(cells: pd.DataFrame, settings: PredictionsFigureSettings) -> str:
    states = _states(cells)
    tested = int((states != "").sum())
    if tested == 0:
        return "No predictions: the model failed on every split"
    wrong = int((states == "wrong").sum())
    protocol = f", protocol {settings.protocol}" if settings.protocol else ""
    return f"Wrongly classified: {wrong:,} of {tested:,} ({100 * wrong / tested:.1f} %){protocol}"


def _looks(labels: list[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each type: alike only for types more than 70 places apart."""
    colours = PALETTE[:7]  # without black
    n = len(colours)
    return {label: (colours[i % n], MARKERS[(i // n) % len(MARKERS)]) for i, label in enumerate(labels)}


@dataclass(frozen=True)
class _Sheet:
    """Sizes in mm: panels side by side, names of the types in columns below them."""

    rows: int
    columns: int
    pitch: float

    @classmethod
    def of(cls, n_types: int) -> "_Sheet":
        columns = 4 if n_types <= MANY else 6
        return cls(math.ceil(n_types / columns), columns, 3.6 if n_types <= MANY else 2.6)

    @property
    def legend(self) -> float:
        return 4 + self.rows * self.pitch

    @property
    def height(self) -> float:
        return 20 + PANEL * 0.86 + self.legend

    def figure(self) -> "Figure":
        return blank(PAGE_WIDTH, self.height)

    def panel(self, number: int) -> tuple[float, float, float, float]:
        left = 2 + number * (PANEL + 6)
        return left / PAGE_WIDTH, self.legend / self.height, PANEL / PAGE_WIDTH, PANEL * 0.86 / self.height


def _legend(figure: "Figure", looks: Mapping[str, tuple[str, str]], sheet: _Sheet) -> None:
    size = TYPE - 0.5 if len(looks) <= MANY else SMALLEST_TYPE
    legend(
        figure,
        [_dot(*look, size) for look in looks.values()],
        list(looks),
        loc="upper left",
        bbox_to_anchor=(0.0, (sheet.legend - 1) / sheet.height),
        ncols=sheet.columns,
        fontsize=size,
        handletextpad=0.1,
        columnspacing=1.0,
        labelspacing=max(0.1, sheet.pitch / (size * 0.3528) - 1.15),
        borderpad=0.2,
    )


def _dot(colour: str, marker: str, size: float) -> "Line2D":
    return mark(linestyle="", marker=marker, markersize=size * 0.6, color=colour, mew=0)
