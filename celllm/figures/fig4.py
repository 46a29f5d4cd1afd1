"""Fig. 4 of the paper: the longest cell that fits a memory, by the batch size of the contrastive loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from celllm.figures.numbers import read_numbers, write_figure
from celllm.figures.theme import GRID, INK, PALETTE, SMALLEST_TYPE, SOFT, TYPE, blank, headed, legend, mark
from celllm.scores.columns import MEMORY, PAPER_LENGTHS
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 125.0, 78.0  # mm
PAPER_CELLS = 256  # of the lengths in section 4.3, in 40 GB
EXPRESSED = (300, 5000)  # genes of most cells, section 4.3
TITLES = {"end_to_end": "end-to-end", "divide_and_conquer": "divide-and-conquer"}
ATTENTIONS = {"favor": "attention of this package", "released": "performer-pytorch (released)"}
_COLOURS = {"end_to_end": PALETTE[1], "divide_and_conquer": PALETTE[0]}
_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Fig4Settings:
    """What the figure says of itself. There is no toy: every run measures the model of ``memory.size``."""

    budget_gib: float = 40.0
    model: str = "Model of 50 M parameters, float32"
    tracker: str = "accounting on the meta device"


def run_fig4(table: str | Path, out: str | Path, settings: Mapping[str, Any] | str | None = None) -> None:
    """Write ``<out>.png``, ``<out>.svg`` and the numbers behind them, ``<out>.csv``.

    The CSV has one line per point: source (measured, paper), attention, contrast, n_cells, length.

    Parameters
    ----------
    table
        What :func:`celllm.probes.memory.run_memory` wrote.
    settings
        :class:`Fig4Settings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(Fig4Settings, settings, "fig4: settings")
    points = _points(read_numbers(table, MEMORY, "memory"))
    write_figure(out, points, lambda: draw(points, chosen))


def _points(frame: pd.DataFrame) -> pd.DataFrame:
    """Points of the curves where any gene fits, and the paper's two."""
    curve = frame[(frame["what"] == "curve") & (frame["length"] > 0)].assign(source="measured")
    printed = [
        {"source": "paper", "attention": "", "contrast": c, "n_cells": PAPER_CELLS, "length": length}
        for c, length in PAPER_LENGTHS.items()
    ]
    columns = ["source", "attention", "contrast", "n_cells", "length"]
    return pd.concat([curve[columns], pd.DataFrame(printed)], ignore_index=True)


def draw(points: pd.DataFrame, settings: Fig4Settings) -> "Figure":
    """Both schemes over the batch size, on logarithmic axes, a line style for each attention."""
    figure = blank(WIDTH, HEIGHT)
    axes = figure.add_axes((0.125, 0.125, 0.49, 0.715))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.axhspan(*EXPRESSED, color="#eef1f5", zorder=0)
    axes.text(
        1.02, (EXPRESSED[0] * EXPRESSED[1]) ** 0.5, "expressed genes\nof most cells (paper)",
        transform=axes.get_yaxis_transform(), va="center", fontsize=SMALLEST_TYPE + 0.5, color=SOFT,
    )  # fmt: skip
    measured = points[points["source"] == "measured"]
    attentions = list(dict.fromkeys(measured["attention"]))
    for (attention, contrast), line in measured.groupby(["attention", "contrast"], sort=False):
        style = _STYLES[attentions.index(attention) % len(_STYLES)]
        axes.plot(line["n_cells"], line["length"], style, color=_COLOURS[contrast], linewidth=1.2)
    for contrast, length in PAPER_LENGTHS.items():
        axes.plot(PAPER_CELLS, length, "o", color=_COLOURS[contrast], markersize=4.5, mec=INK, mew=0.6)
        axes.annotate(
            f"paper: {length:,}", (PAPER_CELLS, length), (-5, -8), textcoords="offset points", ha="right",
            fontsize=TYPE - 1,
        )  # fmt: skip
    _finish(axes)
    _legend(figure, attentions)
    title = f"Fig. 4: longest cell in {settings.budget_gib:g} GiB"
    lines = [f"{settings.model}, peak memory of a training step: {settings.tracker}"]
    headed(figure, title, lines, toy=False)
    return figure


def _finish(axes: "Axes") -> None:
    axes.set_xlabel("Batch size of the contrastive loss (cells)")
    axes.set_ylabel("Longest cell (genes)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(length=2, color=INK)
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.4)
    axes.set_axisbelow(True)


def _legend(figure: "Figure", attentions: list[str]) -> None:
    """Beside the axes: colours are schemes, line styles are attentions."""
    schemes = [mark(color=colour, linewidth=1.2) for colour in _COLOURS.values()]
    styles = [mark(color=SOFT, linestyle=_STYLES[n % len(_STYLES)]) for n in range(len(attentions))]
    paper = mark(linestyle="", marker="o", color="white", mec=INK, mew=0.6, markersize=4.5)
    names = [ATTENTIONS.get(name, name) for name in attentions]
    legend(
        figure,
        [*schemes, *styles, paper],
        [*TITLES.values(), *names, "paper"],
        loc="upper left", bbox_to_anchor=(0.625, 0.87), fontsize=TYPE - 0.5, handlelength=2.4,
    )  # fmt: skip
