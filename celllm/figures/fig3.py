"""Fig. 3 of the paper: which classes are taken for which, as a heatmap of shares per true class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from celllm.figures import theme
from celllm.figures.figure import Drawing, FigureSettings
from celllm.report import published as printed
from celllm.scores.scores import read_predictions

LEAST_WIDTH = 80.0  # mm
PERCENT_AND_COUNT = 15  # classes up to which a cell holds its share and, in its corner, its count
PERCENT = 30  # classes up to which a cell holds its share


def draw(settings: FigureSettings, predictions: str | Path) -> Drawing:
    """Pairs of classes with count and share of the label's cells, and their heatmap, all splits pooled.

    Predictions of a model that failed on every split are empty, and the figure says so.
    """
    frame = read_predictions(predictions)
    names = printed.load().classes.get(settings.data_set, {})
    counts = confusion(frame, names)
    titles = [names.get(c, c) for c in counts.index]
    numbers = pd.DataFrame(
        {
            "label": np.repeat(titles, len(titles)),
            "predicted": np.tile(titles, len(titles)),
            "count": counts.to_numpy().ravel(),
            "share": shares(counts).ravel(),
        }
    )
    protocol = f"; protocol {settings.protocol}" if settings.protocol else ""
    note = f"{len(frame):,} cells in {frame['split'].nunique()} splits{protocol}"
    title = f"{printed.data_set_title(settings.data_set)}, {settings.title('celllm')}"
    return numbers, lambda: heatmap(counts, titles, title, note, settings.toy)


def confusion(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Counts of label (rows) x predicted (columns), every class on both sides, in order of lineage."""
    present = set(frame["label"]) | set(frame["predicted"])
    classes = lineage(frame["label"].value_counts().reindex(sorted(present), fill_value=0), names)
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


def heatmap(counts: pd.DataFrame, titles: list[str], title: str, note: str, toy: bool = False) -> Figure:
    """Draw a table of :func:`confusion`, its classes printed as ``titles``.

    Cells have a fixed size on paper: many classes make a larger figure, not smaller type. Per cent in the
    middle, count in the lower right corner; nothing where there is nothing.
    """
    n = len(counts)
    if n == 0:
        reason = "No predictions: the model failed on every split.\nThe score file says why"
        return theme.gap(title, reason, toy, width=LEAST_WIDTH)
    labels = [theme.short(name) for name in titles]
    few = n <= PERCENT
    # Millimetres: room in a cell for what is written in it, and for the smallest type along the axes.
    side = 9.0 if n <= PERCENT_AND_COUNT else 6.0 if few else 2.3
    letter = 0.6 * (theme.TYPE - 1) / 72 / theme.MM  # 0.6 of its size wide
    margin = max(10.0, max(map(len, labels)) * letter)
    grid = max(n * side, 30.0)
    zoom = max(1.0, grid / theme.PAGE_WIDTH)  # of titles, where a sheet is wider than a page
    left, bottom = margin + 9 * zoom, (0.72 if few else 1) * margin + 9 * zoom
    width, height = max(left + grid + 20 * zoom, LEAST_WIDTH), bottom + grid + 16 * zoom
    figure = theme.blank(width, height)
    axes = figure.add_axes((left / width, bottom / height, grid / width, grid / height))
    bar = figure.add_axes(
        ((left + grid + 3 * zoom) / width, bottom / height, 3 * zoom / width, min(grid, 60 * zoom) / height)
    )
    share = shares(counts)
    written = [
        ["" if s != s or s == 0 else "<1" if s < 0.005 else f"{100 * s:.0f}" for s in row] for row in share
    ]
    small = theme.SMALLEST_TYPE
    size = theme.TYPE - 1 if few else small
    sns.heatmap(
        100 * share, ax=axes, cbar_ax=bar, cmap=theme.SEQUENTIAL, vmin=0, vmax=100, square=True,
        linewidths=0.6 if few else 0.15, linecolor="white", annot=np.array(written) if few else None, fmt="",
        annot_kws={"fontsize": size}, xticklabels=labels, yticklabels=labels,
        cbar_kws={"label": "Share of the true class (%)"},
    )  # fmt: skip
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if few else {"rotation": 90}
    axes.set_xticklabels(labels, fontsize=size, **slanted)
    axes.set_yticklabels(labels, fontsize=size, rotation=0)
    theme.literal([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set_xlabel("Predicted class", fontsize=theme.TYPE * zoom)
    axes.set_ylabel("True class", fontsize=theme.TYPE * zoom)
    for part in (axes, bar):
        part.tick_params(length=1.5, pad=1.5)
    bar.tick_params(labelsize=(theme.TYPE - 1) * zoom)
    bar.yaxis.label.set_fontsize(theme.TYPE * zoom)
    table = counts.to_numpy()
    if n <= PERCENT_AND_COUNT:
        for row, column in zip(*np.nonzero(table), strict=True):
            ink = "white" if share[row, column] > 0.55 else "black"
            axes.text(
                column + 0.96, row + 0.95, f"{table[row, column]:,}", ha="right", va="bottom", fontsize=small,
                color=ink,
            )  # fmt: skip
    for row in np.flatnonzero(table.sum(axis=1) == 0):
        axes.text(0.2, row + 0.5, "no cell has this label", va="center", fontsize=small, color=theme.SOFT)
    corner = ", number of cells in the corner" if n <= PERCENT_AND_COUNT else ""
    notes = [note, f"In a cell: % of the true class{corner}"] if few else [note]
    theme.headed(figure, title, notes, toy, zoom)
    return figure
