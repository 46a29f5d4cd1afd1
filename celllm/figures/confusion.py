"""Fig. 3 of the paper: which classes are taken for which, as a heatmap of shares per true class."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from celllm.figures.numbers import write_figure
from celllm.figures.settings import PredictionsFigureSettings
from celllm.figures.theme import (
    MM,
    PAGE_WIDTH,
    SEQUENTIAL,
    SMALLEST_TYPE,
    SOFT,
    TYPE,
    blank,
    gap,
    headed,
    literal,
    short,
)
from celllm.report import published as printed
from celllm.scores.scores import read_predictions
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_WIDTH = 80.0  # mm
PERCENT_AND_COUNT = 15  # classes up to which a cell holds its share and, in its corner, its count
PERCENT = 30  # classes up to which a cell holds its share
Place = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class ConfusionSettings(PredictionsFigureSettings):
    """Order of the classes.

    ``order``: ``lineage`` takes the paper's classes in order of descent (classes that the paper lacks follow
    by frequency); ``frequency`` puts the largest class first.
    """

    order: Literal["lineage", "frequency"] = "lineage"


def run_confusion(predictions: str | Path, settings: Mapping[str, Any] | str, out: str | Path) -> None:
    """Write ``<out>.png``, ``<out>.svg`` and the numbers behind them, ``<out>.csv``.

    The CSV has one line per pair of classes: label, predicted, count, share (of the cells with that label).

    Parameters
    ----------
    predictions
        A file of predictions (cell, split, label, predicted); all its splits are pooled. Of a model that
        failed on every split it is empty, and the figure says so.
    settings
        :class:`ConfusionSettings` as mapping or JSON.
    """
    chosen = fill(ConfusionSettings, settings, "confusion: settings")
    frame = read_predictions(predictions)
    names = printed.load().classes.get(chosen.data_set, {})
    counts = confusion(frame, names, chosen.order)
    n_splits = frame["split"].nunique()
    write_figure(out, _tidy(counts, names), lambda: draw(counts, names, chosen, n_splits))


def confusion(frame: pd.DataFrame, names: Mapping[str, str], order: str) -> pd.DataFrame:
    """Counts of label (rows) x predicted (columns), every class on both sides, in the order asked for."""
    frequency = frame["label"].value_counts()
    present = set(frame["label"]) | set(frame["predicted"])
    classes = lineage(frequency.reindex(sorted(present), fill_value=0), names if order == "lineage" else {})
    return pd.crosstab(frame["label"], frame["predicted"]).reindex(
        index=classes, columns=classes, fill_value=0
    )


def lineage(frequency: "pd.Series[int]", names: Mapping[str, str]) -> list[str]:
    """Classes in the order of ``names``, the others after them, the most frequent first."""
    rest = sorted(frequency.index, key=lambda c: (-int(frequency[c]), c))
    known = [c for c in names if c in frequency.index]
    return known + [c for c in rest if c not in known]


def shares(counts: pd.DataFrame) -> np.ndarray:
    """Rows divided by their sums; NaN for a class that was predicted but is nobody's label."""
    table = counts.to_numpy(dtype=float)
    totals = table.sum(axis=1, keepdims=True)
    return np.divide(table, totals, out=np.full_like(table, np.nan), where=totals > 0)


def _tidy(counts: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    titles = [names.get(c, c) for c in counts.index]
    n = len(titles)
    return pd.DataFrame(
        {
            "label": np.repeat(titles, n),
            "predicted": np.tile(titles, n),
            "count": counts.to_numpy().ravel(),
            "share": shares(counts).ravel(),
        }
    )


def draw(
    counts: pd.DataFrame, names: Mapping[str, str], settings: ConfusionSettings, n_splits: int
) -> "Figure":
    """The heatmap; cells have a fixed size on paper: many classes make a larger figure, not smaller type."""
    title = f"{data_set_title(settings.data_set)}, {settings.model}"
    n = len(counts)
    if n == 0:
        reason = "No predictions: the model failed on every split.\nThe score file says why"
        return gap(title, reason, settings.toy, width=LEAST_WIDTH)
    labels = [short(names.get(c, c)) for c in counts.index]
    sheet = _Sheet.of(n, _label_length(labels))
    figure = sheet.figure()
    axes = figure.add_axes(sheet.place(sheet.left, sheet.bottom, sheet.grid, sheet.grid))
    _heatmap(axes, shares(counts), counts.to_numpy(), labels, sheet.zoom)
    beside = sheet.left + sheet.grid + 3 * sheet.zoom
    bar = sheet.place(beside, sheet.bottom, 3 * sheet.zoom, min(sheet.grid, 60.0 * sheet.zoom))
    _colour_bar(figure, axes, bar, sheet.zoom)
    lines = [f"{int(counts.to_numpy().sum()):,} cells in {n_splits} splits" + _protocol(settings)]
    if n <= PERCENT:
        corner = ", number of cells in the corner" if n <= PERCENT_AND_COUNT else ""
        lines.append(f"In a cell: % of the true class{corner}")
    headed(figure, title, lines, settings.toy, sheet.zoom)
    return figure


@dataclass(frozen=True)
class _Sheet:
    """Sizes of a figure in mm; ``zoom`` enlarges titles where a sheet is wider than a page."""

    width: float
    height: float
    left: float
    bottom: float
    grid: float
    zoom: float

    @classmethod
    def of(cls, n: int, margin: float) -> "_Sheet":
        """The sheet for n classes whose names need ``margin`` mm."""
        grid = max(n * _cell_size(n), 30.0)
        zoom = max(1.0, grid / PAGE_WIDTH)
        slanted = 0.72 * margin if n <= PERCENT else margin
        left, bottom = margin + 9 * zoom, slanted + 9 * zoom
        width, height = max(left + grid + 20 * zoom, LEAST_WIDTH), bottom + grid + 16 * zoom
        return cls(width, height, left, bottom, grid, zoom)

    def figure(self) -> "Figure":
        return blank(self.width, self.height)

    def place(self, left: float, bottom: float, width: float, height: float) -> Place:
        """A rectangle in mm as matplotlib wants it, in shares of the figure."""
        return left / self.width, bottom / self.height, width / self.width, height / self.height


def _cell_size(n: int) -> float:
    """Side of a cell in mm: room for what is written in it, and for type of the smallest size on the axes."""
    if n <= PERCENT_AND_COUNT:
        return 9.0
    return 6.0 if n <= PERCENT else 2.3


def _label_length(labels: list[str]) -> float:
    """Room in mm for the longest label; a letter is some 0.6 of its type size wide."""
    return max(10.0, max(len(label) for label in labels) * 0.6 * (TYPE - 1) / 72 / MM)


def _heatmap(axes: "Axes", share: np.ndarray, counts: np.ndarray, labels: list[str], zoom: float) -> None:
    n = len(labels)
    axes.imshow(100 * share, cmap=SEQUENTIAL, vmin=0, vmax=100, aspect="equal", interpolation="nearest")
    size = TYPE - 1 if n <= PERCENT else SMALLEST_TYPE
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if n <= PERCENT else {"rotation": 90}
    axes.set_xticks(range(n), labels, fontsize=size, **slanted)
    axes.set_yticks(range(n), labels, fontsize=size)
    literal([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set_xlabel("Predicted class", fontsize=TYPE * zoom)
    axes.set_ylabel("True class", fontsize=TYPE * zoom)
    axes.tick_params(length=1.5, pad=1.5)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6 if n <= PERCENT else 0.15)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    if n <= PERCENT:
        _annotate(axes, share, counts, with_counts=n <= PERCENT_AND_COUNT)


def _annotate(axes: "Axes", share: np.ndarray, counts: np.ndarray, with_counts: bool) -> None:
    """Per cent in the middle, count in the lower right corner; nothing where there is nothing."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        value = share[row, column]
        ink = "white" if value > 0.55 else "black"
        text = f"{100 * value:.0f}" if value >= 0.005 else "<1"
        lift = 0.12 if with_counts else 0.0
        axes.text(column, row - lift, text, ha="center", va="center", fontsize=TYPE - 1, color=ink)
        if with_counts:
            corner = (column + 0.46, row + 0.44)
            axes.text(
                *corner,
                f"{counts[row, column]:,}",
                ha="right",
                va="bottom",
                fontsize=SMALLEST_TYPE,
                color=ink,
            )
    for row in np.flatnonzero(counts.sum(axis=1) == 0):
        axes.text(-0.3, float(row), "no cell has this label", va="center", fontsize=SMALLEST_TYPE, color=SOFT)


def _colour_bar(figure: "Figure", axes: "Axes", place: Place, zoom: float) -> None:
    bar = figure.colorbar(axes.images[0], cax=figure.add_axes(place))
    bar.set_label("Share of the true class (%)", fontsize=TYPE * zoom)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=1.5, pad=1.5, labelsize=(TYPE - 1) * zoom)


def _protocol(settings: ConfusionSettings) -> str:
    return f"; protocol {settings.protocol}" if settings.protocol else ""


def data_set_title(data_set: str) -> str:
    """The paper's spelling of a data set's name."""
    columns = [c for table in printed.load().tables.values() for c in table.columns]
    return next((c.group_title for c in columns if c.data_set == data_set and c.group == data_set), data_set)
