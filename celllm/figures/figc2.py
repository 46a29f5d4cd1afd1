"""Fig. C.2 of the paper: cells laid out by the most expressed and by the most attended genes alone."""

from pathlib import Path

from matplotlib.figure import Figure

from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.figures.theme import PAGE_WIDTH, PALETTE, TYPE, blank, headed, legend, mark, scatter
from celllm.report import published as printed
from celllm.scores.columns import CELLS, KINDS, SETS
from celllm.scores.facts import read_facts

COLOURS = dict(zip(KINDS, PALETTE, strict=False))
TITLES = {"expressed": "most expressed genes", "attended": "most attended genes"}


def draw(settings: FigureSettings, cells: str | Path, facts: str | Path) -> Drawing:
    """Places and clusters of the cells by both sets of genes (``celllm interpret``), and a panel for each."""
    table = read_numbers(cells, CELLS, "interpret", text=("sample",))
    study = read_facts([facts])["interpretation"]

    def figure() -> Figure:
        figure = blank(PAGE_WIDTH * 0.8, 84)
        for axes, letter, name in zip(figure.subplots(1, 2), "ab", SETS, strict=True):
            # In a random order, so that neither kind covers the other.
            cells = table[table["genes"] == name].sample(frac=1, random_state=0)
            scatter(axes, cells["x"], cells["y"], cells["kind"].map(COLOURS).to_numpy())
            text = f"({letter}) {study['n_genes']} {TITLES[name]}"
            axes.set_title(text, fontsize=TYPE, weight="normal", pad=3)
            paper = printed.load().claim(f"ari-{name}").paper
            axes.set_xlabel(f"ARI {study[f'ari_{name}']:.3f}  (paper {paper})", fontsize=TYPE)
        counts = ", ".join(f"{n:,} {kind}" for kind, n in study["n_cells"].items())
        lines = [f"t-SNE of {counts} cells; ARI of k-means with two clusters against normal and tumour"]
        dots = [mark(linestyle="", marker="o", markersize=4, color=COLOURS[kind]) for kind in KINDS]
        legend(figure, dots, KINDS, ncols=2, handletextpad=0.2)
        top = 0.80 - 0.02 * settings.toy
        figure.subplots_adjust(left=0.02, right=0.98, top=top, bottom=0.15, wspace=0.06)
        title = f"Fig. C.2: cells by the expression of {study['n_genes']} genes"
        headed(figure, title, lines, settings.toy)
        return figure

    return table, figure
