"""Table B.2 as curves: annotation scores by the size of the model, the paper's beside ours."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.figures.theme import GRID, INK, NOTE_LINE, PAGE_WIDTH, PALETTE, SOFT, TYPE, blank, headed, legend
from celllm.report import published as printed

TABLE, METRIC = "tableb2", "macro_f1"
HEIGHT = 66.0  # mm
COLUMNS = ("title", "column", "protocol", "mean", "sd", "paper_value", "paper_sd", "status", "reason")
# Source -> colour, marker and name of its line.
LOOKS = {
    "paper's own": (PALETTE[1], "s", "paper"),
    "strict": (PALETTE[0], "o", "here, strict"),
    "paper": (PALETTE[5], "^", "here, paper's protocol"),
}
_MILLIONS = re.compile(r"(\d+)M\b")


def draw(settings: FigureSettings, table: str | Path) -> Drawing:
    """A point per size, column and source (``paper``, or a protocol of ours), and a panel per data set.

    A point of Table B.2 (CSV) has the millions of parameters by the name of its row, mean, sd, and a reason
    where there is no mean.
    """
    text = ("title", "column", "protocol", "status", "reason")
    points = points_of(read_numbers(table, COLUMNS, f"table {TABLE}", text))
    return points, lambda: _figure(points, settings.toy)


def points_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the table as points of lines: the paper's once, ours for each protocol."""
    rows = rows.assign(millions=rows["title"].str.extract(_MILLIONS, expand=False).astype(float))
    rows = rows[rows["millions"].notna()]
    ours = rows.assign(source=rows["protocol"])
    paper = rows.drop_duplicates(["title", "column"]).assign(source="paper's own", reason="")
    paper = paper.assign(mean=paper["paper_value"], sd=paper["paper_sd"])
    columns = ["source", "column", "millions", "mean", "sd", "reason"]
    return pd.concat([paper[columns], ours[columns]]).sort_values(["column", "source", "millions"])


def _figure(points: pd.DataFrame, toy: bool) -> Figure:
    of_paper = [c.group for c in printed.load().tables[TABLE].columns]
    drawn = [name for name, _, metric in points["column"].str.partition("/").to_numpy() if metric == METRIC]
    groups = list(dict.fromkeys([*of_paper, *drawn]))
    metric = printed.load().metrics[METRIC]
    figure = blank(PAGE_WIDTH * 0.75, HEIGHT)
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        _panel(axes, points[points["column"] == f"{group}/{METRIC}"])
        axes.set_title(printed.data_set_title(group), fontsize=TYPE, weight="normal", pad=3)
    panels[0].set_ylabel(f"{metric.title} (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    legend(figure, handles, labels, ncols=3)
    head = 12 + NOTE_LINE * toy
    figure.subplots_adjust(left=0.09, right=0.985, top=1 - (head + 4) / HEIGHT, bottom=0.25, wspace=0.2)
    note = "Mean and standard deviation over splits"
    headed(figure, "Scores by size of the model (Table B.2)", [note], toy)
    return figure


def _panel(axes: Axes, points: pd.DataFrame) -> None:
    for number, (source, (colour, marker, label)) in enumerate(LOOKS.items()):
        line = points[(points["source"] == source) & points["mean"].notna()]
        mean, sd = line["mean"].to_numpy(), line["sd"].fillna(0).to_numpy()
        x = line["millions"] * 1.03 ** (number - 1)  # side by side, to keep error bars apart
        axes.errorbar(
            x, mean, (np.minimum(sd, mean), np.minimum(sd, 100 - mean)), color=colour, marker=marker,
            markersize=4, capsize=2, elinewidth=0.7, label=label,
        )  # fmt: skip
    axes.set_xscale("log")
    sizes = np.unique(points["millions"])
    axes.set_xticks(sizes, [f"{size:.0f}M" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("Size in the name of the row")
    axes.grid(axis="y", color=GRID, linewidth=0.4)
    axes.tick_params(length=2, color=INK)
    ours = points[points["source"] != "paper's own"]
    missing = ours[ours["mean"].isna()]
    if len(missing) or ours.empty:
        reasons = [reason for reason in missing["reason"].dropna() if reason]
        names = ", ".join(f"{size:.0f}M" for size in np.unique(missing["millions"]))
        text = f"{names}: " * bool(names) + (reasons[0] if reasons else "not scored in this run")
        axes.text(0.02, 0.03, text, transform=axes.transAxes, fontsize=TYPE - 1.5, color=SOFT)
        axes.margins(y=0.12)
