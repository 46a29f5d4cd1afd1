"""Fig. 4 of the paper: the longest cell that fits a memory, by the batch size of the contrastive loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.figures.theme import GRID, INK, PALETTE, SMALLEST_TYPE, SOFT, TYPE, blank, headed, legend, mark
from celllm.report import published as printed
from celllm.scores.columns import MEMORY, PAPER_LENGTHS
from celllm.scores.facts import read_facts

WIDTH, HEIGHT = 125.0, 78.0  # mm
PAPER_CELLS = 256  # of the lengths in section 4.3, in 40 GB
EXPRESSED = (300, 5000)  # genes of most cells, section 4.3
TITLES = {"end_to_end": "end-to-end", "divide_and_conquer": "divide-and-conquer"}
ATTENTIONS = {"favor": "attention of this package", "released": "released attention"}
_COLOURS = {"end_to_end": PALETTE[1], "divide_and_conquer": PALETTE[0]}
_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")


def draw(settings: FigureSettings, table: str | Path, facts: str | Path) -> Drawing:
    """Points of the curves where any gene fits, and the paper's two; both schemes over the batch size.

    Table and facts are of ``celllm memory``. There is no toy: every run measures the model of the paper.
    """
    frame = read_numbers(table, MEMORY, "memory")
    curve = frame[(frame["what"] == "curve") & (frame["length"] > 0)].assign(source="measured")
    paper = [
        {"source": "paper", "attention": "", "contrast": c, "n_cells": PAPER_CELLS, "length": length}
        for c, length in PAPER_LENGTHS.items()
    ]
    columns = ["source", "attention", "contrast", "n_cells", "length"]
    points = pd.concat([curve[columns], pd.DataFrame(paper)], ignore_index=True)
    return points, lambda: _figure(points, read_facts([facts])["memory"])


def _figure(points: pd.DataFrame, facts: Mapping[str, Any]) -> Figure:
    """Logarithmic axes, a colour for each scheme and a line style for each attention."""
    figure = blank(WIDTH, HEIGHT)
    axes = figure.add_axes((0.125, 0.125, 0.49, 0.715))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.axhspan(*EXPRESSED, color="#eef1f5", zorder=0)
    n_genes = int(str(printed.load().claim("genes").paper))
    axes.axhline(n_genes, color=SOFT, linewidth=0.5, linestyle=(0, (1, 2)))
    beside = {"expressed genes\nof most cells (paper)": (EXPRESSED[0] * EXPRESSED[1]) ** 0.5}
    beside |= {f"the vocabulary: {n_genes:,}\ngenes, no cell is longer": n_genes}
    for text, height in beside.items():
        axes.text(
            1.02, height, text, transform=axes.get_yaxis_transform(), va="center",
            fontsize=SMALLEST_TYPE + 0.5, color=SOFT,
        )  # fmt: skip
    measured = points[points["source"] == "measured"]
    attentions = list(dict.fromkeys(measured["attention"]))
    lines = {}
    for (attention, contrast), line in measured.groupby(["attention", "contrast"], sort=False):
        look = {"color": _COLOURS[contrast], "linestyle": _STYLES[attentions.index(attention) % len(_STYLES)]}
        axes.plot(line["n_cells"], line["length"], linewidth=1.2, **look)
        of = f",\n{ATTENTIONS.get(attention, attention)}" if len(attentions) > 1 else ""
        lines[f"{TITLES[contrast]}{of}"] = mark(linewidth=1.2, **look)
    for contrast, length in PAPER_LENGTHS.items():
        axes.plot(PAPER_CELLS, length, "o", color=_COLOURS[contrast], markersize=4.5, mec=INK, mew=0.6)
        axes.annotate(
            f"paper: {length:,}", (PAPER_CELLS, length), (-5, -8), textcoords="offset points", ha="right",
            fontsize=TYPE - 1,
        )  # fmt: skip
    axes.set_xlabel("Batch size of the contrastive loss (cells)")
    axes.set_ylabel("Longest cell (genes)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(length=2, color=INK)
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.4)
    axes.set_axisbelow(True)
    legend(
        figure, list(lines.values()), list(lines), loc="lower left", fontsize=TYPE - 0.5,
        bbox_to_anchor=(0.625, 0.1), handlelength=2.4,
    )  # fmt: skip
    notes = [f"The paper's model of 50 M parameters, peak memory of a training step: {facts['tracker']}"]
    headed(figure, f"Fig. 4: longest cell in {facts['budget_gib']:g} GiB", notes, toy=False)
    return figure
