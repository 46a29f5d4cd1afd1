"""Table B.2 as curves: annotation scores by the size of the model, the paper's beside ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from celllm.figures.numbers import read_numbers, write_figure
from celllm.figures.settings import FigureSettings
from celllm.figures.theme import GRID, INK, NOTE_LINE, PAGE_WIDTH, PALETTE, SOFT, TYPE, blank, headed, legend
from celllm.report import published as printed
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLE = "tableb2"
HEIGHT = 66.0  # mm
COLUMNS = ("title", "column", "protocol", "mean", "sd", "paper_value", "paper_sd", "status", "reason")
_OURS = {"strict": PALETTE[0], "paper": PALETTE[5]}
_PAPER = PALETTE[1]
_MILLIONS = re.compile(r"(\d+)M\b")


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(FigureSettings):
    """``metric`` is a column of the table."""

    metric: str = "macro_f1"


def run_scaling(table: str | Path, out: str | Path, settings: Mapping[str, Any] | str | None = None) -> None:
    """Write ``<out>.png``, ``<out>.svg`` and the numbers behind them, ``<out>.csv``.

    The CSV has a line per size, column and source (``paper``, or a protocol of ours): millions of parameters
    by the name of the row, mean, sd, and a reason where there is no mean.

    Parameters
    ----------
    table
        Table B.2 as :func:`celllm.report.tables.run_table` wrote it, CSV.
    settings
        :class:`ScalingSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(ScalingSettings, settings, "scaling: settings")
    points = points_of(read_numbers(table, COLUMNS, f"table {TABLE}"))
    write_figure(out, points, lambda: draw(points, chosen))


def points_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the table as points of lines: the paper's once, ours for each protocol."""
    rows = rows.assign(millions=rows["title"].str.extract(_MILLIONS, expand=False).astype(float))
    rows = rows[rows["millions"].notna()]
    ours = rows.assign(source=rows["protocol"])
    paper = rows.drop_duplicates(["title", "column"]).assign(source="paper's own", reason="")
    paper = paper.assign(mean=paper["paper_value"], sd=paper["paper_sd"])
    columns = ["source", "column", "millions", "mean", "sd", "reason"]
    return pd.concat([paper[columns], ours[columns]]).sort_values(["column", "source", "millions"])


def draw(points: pd.DataFrame, settings: ScalingSettings) -> "Figure":
    """A panel per data set."""
    columns = printed.load().tables[TABLE].columns
    groups = {c.group: c.group_title for c in columns}
    metric = next(c.metric.title for c in columns if c.metric.name == settings.metric)
    figure = blank(PAGE_WIDTH * 0.75, HEIGHT)
    panels = figure.subplots(1, len(groups))
    for axes, (group, title) in zip(panels, groups.items(), strict=True):
        _panel(axes, points[points["column"] == f"{group}/{settings.metric}"])
        axes.set_title(title, fontsize=TYPE, weight="normal", pad=3)
    panels[0].set_ylabel(f"{metric} (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    legend(figure, handles, labels, ncols=3)
    head = 12 + NOTE_LINE * settings.toy
    figure.subplots_adjust(left=0.09, right=0.985, top=1 - (head + 4) / HEIGHT, bottom=0.25, wspace=0.2)
    lines = ["Mean and standard deviation over splits; sizes by the names of the paper's rows"]
    headed(figure, "Scores by size of the model (Table B.2)", lines, settings.toy)
    return figure


def _panel(axes: "Axes", points: pd.DataFrame) -> None:
    looks = {"paper's own": (_PAPER, "s", "paper"), "strict": (_OURS["strict"], "o", "here, strict")}
    looks["paper"] = (_OURS["paper"], "^", "here, paper's protocol")
    for number, (source, (colour, marker, label)) in enumerate(looks.items()):
        line = points[(points["source"] == source) & points["mean"].notna()]
        x = line["millions"] * 1.03 ** (number - 1)  # side by side, to keep error bars apart
        axes.errorbar(
            x, line["mean"], line["sd"].fillna(0), color=colour, marker=marker, markersize=4, capsize=2,
            elinewidth=0.7, label=label,
        )  # fmt: skip
    axes.set_xscale("log")
    sizes = np.unique(points["millions"])
    axes.set_xticks(sizes, [f"{size:.0f} M" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("Parameters")
    axes.grid(axis="y", color=GRID, linewidth=0.4)
    axes.tick_params(length=2, color=INK)
    _explain(axes, points)


def _explain(axes: "Axes", points: pd.DataFrame) -> None:
    """Say what is missing, and why."""
    ours = points[points["source"].isin(_OURS)]
    missing = ours[ours["mean"].isna()]
    if missing.empty and len(ours):
        return
    reason = missing["reason"].dropna()
    text = str(reason.iloc[0]) if len(reason) else "not scored in this run"
    sizes = ", ".join(f"{size:.0f} M" for size in np.unique(missing["millions"]))
    axes.annotate(
        f"{sizes}: {text}" if sizes else text, (0.02, 0.03), xycoords="axes fraction", fontsize=TYPE - 1.5,
        color=SOFT,
    )  # fmt: skip
    axes.margins(y=0.12)
