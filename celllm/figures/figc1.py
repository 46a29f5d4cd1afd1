"""Fig. C.1 of the paper: the genes that [CLS] attends to most, in normal and in tumour cells."""

from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

from celllm.figures import theme
from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.report import published as printed
from celllm.scores.columns import GENES, KINDS
from celllm.scores.facts import read_facts

ROW = 3.4  # mm of a gene
LAYERS = {"last": "last layer", "all": "mean of all layers"}
AVERAGES = {"expressing": "mean over the cells that express the gene", "all": "mean over all cells"}


def draw(settings: FigureSettings, table: str | Path, facts: str | Path) -> Drawing:
    """The first genes by attention, of the genes and facts of ``celllm interpret``, and their bars."""
    genes = read_numbers(table, GENES, "interpret", text=("gene",))
    study = read_facts([facts])["interpretation"]
    ranked = genes[genes["attention_rank"].notna()].sort_values("attention_rank")
    top = ranked.head(study["n_genes"])
    rank = ranked.set_index("gene")["attention_rank"]
    of_paper = [str(row.values[0]) for row in printed.load().fact_tables["tablec1"].rows]
    places = [f"{gene} {rank[gene]:.0f}" if gene in rank else f"{gene} unranked" for gene in of_paper]
    title, toy = "Fig. C.1: genes that [CLS] attends to", settings.toy

    def figure() -> Figure:
        if top.empty:
            return theme.gap(title, "No gene is expressed by enough cells", toy)
        head = 15 + theme.NOTE_LINE * toy
        height = head + ROW * len(top) + 11
        figure = theme.blank(theme.COLUMN_WIDTH * 1.15, height)
        bottom = 10 / height
        axes = figure.add_axes((0.19, bottom, 0.77, 1 - (head + 1) / height - bottom))
        bars = top.melt("gene", [f"attention_{kind}" for kind in KINDS], "kind", "share")
        sns.barplot(
            bars.assign(kind=bars["kind"].str.removeprefix("attention_")), ax=axes, x="share", y="gene",
            hue="kind", palette=list(theme.PALETTE[: len(KINDS)]), saturation=1, width=0.78, errorbar=None,
        )  # fmt: skip
        axes.set_yticks(range(len(top)), [theme.short(gene, 18) for gene in top["gene"]])
        theme.literal(axes.get_yticklabels())
        axes.set(xlabel="Attention of [CLS] (share of its weights)", ylabel="")
        axes.tick_params(length=2, color=theme.INK)
        axes.ticklabel_format(axis="x", scilimits=(-3, 3))
        axes.legend(loc="lower right", fontsize=theme.TYPE)
        how = f"{LAYERS[study['layer']].capitalize()}, mean over heads; {AVERAGES[study['average']]}"
        ranks = f"Paper's first three, and their ranks here: {', '.join(places)}"
        theme.headed(figure, title, [how, ranks], toy)
        return figure

    return top, figure
