"""Fig. C.1 and C.2 of the paper: the most attended genes, and cells drawn by 20 genes alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from celllm.figures.numbers import read_numbers, write_figure
from celllm.figures.settings import FigureSettings
from celllm.figures.theme import (
    COLUMN_WIDTH,
    INK,
    NOTE_LINE,
    PAGE_WIDTH,
    PALETTE,
    TYPE,
    blank,
    gap,
    headed,
    legend,
    literal,
    mark,
    scatter,
    short,
)
from celllm.io import read_json
from celllm.report import published as printed
from celllm.scores.columns import CELLS, GENES, KINDS, SETS
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(zip(KINDS, PALETTE, strict=False))
ROW = 3.4  # mm of a gene
TITLES = {"expressed": "most expressed genes", "attended": "most attended genes"}
LAYERS = {"last": "last layer", "all": "mean of all layers"}
AVERAGES = {"expressing": "mean over the cells that express the gene", "all": "mean over all cells"}


@dataclass(frozen=True, kw_only=True)
class InterpretationFigureSettings(FigureSettings):
    """Choices of the study; ``n_genes`` bars of Fig. C.1."""

    n_genes: int = 20
    layer: str = "last"
    average: str = "expressing"


def run_figc1(table: str | Path, out: str | Path, settings: Mapping[str, Any] | str | None = None) -> None:
    """Write ``<out>.png``, ``.svg`` and ``.csv``: the genes with the most attention, in both kinds of cells.

    Parameters
    ----------
    table
        The genes of :func:`celllm.probes.attention_genes.run_interpret`.
    settings
        :class:`InterpretationFigureSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(InterpretationFigureSettings, settings, "figc1: settings")
    genes = read_numbers(table, GENES, "interpret")
    ranked = genes[genes["attention_rank"].notna()].sort_values("attention_rank")
    top = ranked.head(chosen.n_genes)
    write_figure(out, top, lambda: _bars(top, _paper_ranks(ranked), chosen))


def _paper_ranks(ranked: pd.DataFrame) -> str:
    """Where the paper's three genes stand here."""
    rank = ranked.set_index("gene")["attention_rank"]
    rows = printed.load().fact_tables["tablec1"].rows
    genes = [str(row.values[0]) for row in rows]
    places = [f"{gene} {rank[gene]:.0f}" if gene in rank else f"{gene} unranked" for gene in genes]
    return f"Paper's first three, and their ranks here: {', '.join(places)}"


def _bars(top: pd.DataFrame, ranks: str, settings: InterpretationFigureSettings) -> "Figure":
    title = "Fig. C.1: genes that [CLS] attends to"
    if top.empty:
        return gap(title, "No gene is expressed by enough cells", settings.toy)
    lines = [f"{LAYERS[settings.layer].capitalize()}, mean over heads; {AVERAGES[settings.average]}", ranks]
    head = 15 + NOTE_LINE * settings.toy
    height = head + ROW * len(top) + 11
    figure = blank(COLUMN_WIDTH * 1.15, height)
    bottom = 10 / height
    axes = figure.add_axes((0.19, bottom, 0.77, 1 - (head + 1) / height - bottom))
    places = np.arange(len(top))
    for shift, kind in zip((-0.2, 0.2), KINDS, strict=True):
        axes.barh(places + shift, top[f"attention_{kind}"], 0.38, color=COLOURS[kind], label=kind)
    axes.set_yticks(places, [short(gene, 18) for gene in top["gene"]])
    literal(axes.get_yticklabels())
    axes.set_ylim(len(top) - 0.4, -0.6)
    axes.set_xlabel("Attention of [CLS] (share of its weights)")
    axes.tick_params(length=2, color=INK)
    axes.ticklabel_format(axis="x", scilimits=(-3, 3))
    axes.legend(loc="lower right", fontsize=TYPE)
    headed(figure, title, lines, settings.toy)
    return figure


def run_figc2(
    cells: str | Path, facts: str | Path, out: str | Path, settings: Mapping[str, Any] | str | None = None
) -> None:
    """Write ``<out>.png``, ``.svg`` and ``.csv``: cells by the expression of 20 genes, two sets of genes.

    Parameters
    ----------
    cells, facts
        The cells and the facts of :func:`celllm.probes.attention_genes.run_interpret`.
    settings
        :class:`InterpretationFigureSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(InterpretationFigureSettings, settings, "figc2: settings")
    table = read_numbers(cells, CELLS, "interpret")
    found = read_json(facts)["interpretation"]
    write_figure(out, table, lambda: _panels(table, found, chosen))


def _panels(
    table: pd.DataFrame, facts: Mapping[str, Any], settings: InterpretationFigureSettings
) -> "Figure":
    figure = blank(PAGE_WIDTH * 0.8, 84)
    panels = figure.subplots(1, 2)
    for axes, letter, name in zip(panels, "ab", SETS, strict=True):
        cells = table[table["genes"] == name]
        _cells(axes, cells)
        axes.set_title(f"({letter}) {facts['n_genes']} {TITLES[name]}", fontsize=TYPE, weight="normal", pad=3)
        ari = f"ARI {facts[f'ari_{name}']:.3f}  (paper {_paper_ari(name)})"
        axes.set_xlabel(ari, fontsize=TYPE)
    counts = ", ".join(f"{n:,} {kind}" for kind, n in facts["n_cells"].items())
    lines = [f"t-SNE of {counts} cells; ARI of k-means with two clusters against normal and tumour"]
    dots = [mark(linestyle="", marker="o", markersize=4, color=COLOURS[kind]) for kind in KINDS]
    legend(figure, dots, KINDS, ncols=2, handletextpad=0.2)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.80 - 0.02 * settings.toy, bottom=0.15, wspace=0.06)
    title = f"Fig. C.2: cells by the expression of {facts['n_genes']} genes"
    headed(figure, title, lines, settings.toy)
    return figure


def _cells(axes: "Axes", cells: pd.DataFrame) -> None:
    """All cells in a random order, so that neither kind covers the other."""
    mixed = cells.sample(frac=1, random_state=0)
    scatter(axes, mixed["x"], mixed["y"], mixed["kind"].map(COLOURS).to_numpy())


def _paper_ari(name: str) -> str:
    wanted = ("interpretation", f"ari_{name}")
    return next(str(claim.paper) for claim in printed.load().claims if tuple(claim.fact or ()) == wanted)
