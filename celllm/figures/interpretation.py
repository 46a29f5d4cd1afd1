"""Fig. C.1 and C.2 of the paper: the most attended genes, and cells drawn by 20 genes alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from celllm.evaluation import paper as printed
from celllm.evaluation.interpretation import CELL_COLUMNS, GENE_COLUMNS, KINDS, SETS
from celllm.figures.numbers import read_numbers, write_numbers
from celllm.figures.theme import (
    COLUMN_WIDTH,
    INK,
    MM,
    PAGE_WIDTH,
    PALETTE,
    TYPE,
    gap,
    headed,
    literal,
    save,
    scatter,
    short,
    theme,
)
from celllm.io import read_json
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(zip(KINDS, PALETTE, strict=False))
ROW = 3.4  # mm of a gene
TITLES = {"expressed": "most expressed genes", "attended": "most attended genes"}
LAYERS = {"last": "last layer", "all": "mean of all layers"}
AVERAGES = {"expressing": "mean over the cells that express the gene", "all": "mean over all cells"}


@dataclass(frozen=True)
class InterpretationFigureSettings:
    """What the figures say of themselves; ``n_genes`` bars of Fig. C.1."""

    run: str = ""
    toy: bool = False
    n_genes: int = 20
    layer: str = "last"
    average: str = "expressing"


def run_figc1(table: str | Path, out: str | Path, settings: Mapping[str, Any] | str | None = None) -> None:
    """Write ``<out>.png``, ``.svg`` and ``.csv``: the genes with the most attention, in both kinds of cells.

    Parameters
    ----------
    table
        The genes of :func:`celllm.evaluation.interpretation.run_interpret`.
    settings
        :class:`InterpretationFigureSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(InterpretationFigureSettings, settings, "figc1: settings")
    genes = read_numbers(table, GENE_COLUMNS, "interpret")
    ranked = genes[genes["attention_rank"].notna()].sort_values("attention_rank")
    top = ranked.head(chosen.n_genes)
    write_numbers(out, top)
    title = "Fig. C.1: genes that [CLS] attends to"
    with theme():
        if top.empty:
            save(gap(title, "No gene is expressed by enough cells", chosen.toy), out)
        else:
            save(_bars(title, top, _paper_ranks(ranked), chosen), out)


def _paper_ranks(ranked: pd.DataFrame) -> str:
    """Where the paper's three genes stand here."""
    rank = ranked.set_index("gene")["attention_rank"]
    rows = printed.load().fact_tables["tablec1"].rows
    genes = [str(row.values[0]) for row in rows]
    places = [f"{gene} {rank[gene]:.0f}" if gene in rank else f"{gene} unranked" for gene in genes]
    return f"Paper's first three, and their ranks here: {', '.join(places)}"


def _bars(title: str, top: pd.DataFrame, ranks: str, settings: InterpretationFigureSettings) -> "Figure":
    from matplotlib.figure import Figure

    lines = [f"{LAYERS[settings.layer].capitalize()}, mean over heads; {AVERAGES[settings.average]}", ranks]
    head = 15 + 2.6 * settings.toy
    height = head + ROW * len(top) + 11
    figure = Figure(figsize=(COLUMN_WIDTH * 1.15 * MM, height * MM))
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
        The cells and the facts of :func:`celllm.evaluation.interpretation.run_interpret`.
    settings
        :class:`InterpretationFigureSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For another file.
    """
    chosen = fill(InterpretationFigureSettings, settings, "figc2: settings")
    table = read_numbers(cells, CELL_COLUMNS, "interpret")
    write_numbers(out, table)
    found = read_json(facts)["interpretation"]
    with theme():
        save(_panels(table, found, chosen), out)


def _panels(
    table: pd.DataFrame, facts: Mapping[str, Any], settings: InterpretationFigureSettings
) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_WIDTH * 0.8 * MM, 84 * MM))
    panels = figure.subplots(1, 2)
    for axes, letter, name in zip(panels, "ab", SETS, strict=True):
        cells = table[table["genes"] == name]
        _cells(axes, cells)
        axes.set_title(f"({letter}) {facts['n_genes']} {TITLES[name]}", fontsize=TYPE, weight="normal", pad=3)
        ari = f"ARI {facts[f'ari_{name}']:.3f}  (paper {_paper_ari(name)})"
        axes.set_xlabel(ari, fontsize=TYPE)
    counts = ", ".join(f"{n:,} {kind}" for kind, n in facts["n_cells"].items())
    lines = [f"t-SNE of {counts} cells; ARI of k-means with two clusters against normal and tumour"]
    handles = [_dot(kind) for kind in KINDS]
    figure.legend(handles, KINDS, loc="lower center", ncols=2, fontsize=TYPE, handletextpad=0.2)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.80 - 0.02 * settings.toy, bottom=0.15, wspace=0.06)
    title = f"Fig. C.2: cells by the expression of {facts['n_genes']} genes"
    headed(figure, title, lines, settings.toy)
    return figure


def _cells(axes: "Axes", cells: pd.DataFrame) -> None:
    """All cells in a random order, so that neither kind covers the other."""
    mixed = cells.sample(frac=1, random_state=0)
    scatter(axes, mixed["x"], mixed["y"], mixed["kind"].map(COLOURS).to_numpy())


def _dot(kind: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker="o", markersize=4, color=COLOURS[kind])


def _paper_ari(name: str) -> str:
    wanted = ("interpretation", f"ari_{name}")
    return next(str(claim.paper) for claim in printed.load().claims if tuple(claim.fact or ()) == wanted)
