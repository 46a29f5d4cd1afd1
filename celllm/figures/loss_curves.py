"""Losses of pre-training by step: a row of panels per model, a column per loss."""

import math
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from celllm.errors import UserError
from celllm.figures import theme
from celllm.figures.figure import Drawing, FigureSettings, read_numbers
from celllm.training.columns import LOSSES, OBJECTIVES

POINTS = 100  # of a line at most; each is the mean over as many steps as that takes
ROW = 15.0  # mm of a model
LEAST = 1e-7  # of a loss on a logarithmic axis
_COLUMNS = ["model", "loss", "step", "value", "n_steps"]


def draw(settings: FigureSettings, **metrics: str | Path) -> Drawing:
    """Points of the curves, and a row of panels for each model, with the other models in grey.

    A point is model, loss, step (the last of those it stands for), value (their mean) and n_steps.

    ``metrics`` are tables of the steps by model. When there is no step in any of them, it is a
    :class:`UserError`.
    """
    tables = {model: read_numbers(path, ["step", *LOSSES], "pretrain") for model, path in metrics.items()}
    trained = {model: steps for model, steps in tables.items() if len(steps)}
    if tables and not trained:
        raise UserError(f"{', '.join(map(str, metrics.values()))}: no step in it; pre-train before drawing")
    lines = [curves(steps, model) for model, steps in trained.items()]
    points = pd.concat(lines, ignore_index=True) if lines else pd.DataFrame(columns=_COLUMNS)
    return points, lambda: _figure(points, list(trained), settings)


def curves(steps: pd.DataFrame, model: str) -> pd.DataFrame:
    """Means of each loss over runs of consecutive steps, equally many in each but the last."""
    steps = steps.sort_values("step")
    at_once = math.ceil(len(steps) / POINTS)
    groups = steps.groupby(np.arange(len(steps)) // at_once)
    parts = [
        groups.agg(step=("step", "last"), value=(loss, "mean"), n_steps=("step", "size")).assign(
            model=model, loss=loss
        )
        for loss in LOSSES
        if steps[loss].notna().any()
    ]
    return pd.concat(parts)[_COLUMNS] if parts else pd.DataFrame(columns=_COLUMNS)


def _figure(points: pd.DataFrame, models: list[str], settings: FigureSettings) -> Figure:
    head, foot, n = 18 + theme.NOTE_LINE * settings.toy, 9, max(1, len(models))
    height = head + ROW * n + foot
    figure = theme.blank(theme.PAGE_WIDTH, height)
    panels = figure.subplots(n, len(OBJECTIVES), sharex=True, sharey="col", squeeze=False)
    for column, objective in enumerate(OBJECTIVES):
        of_loss = points[points["loss"] == objective.name]
        ignorant = None
        if objective.per != "batch" or settings.batch_size:
            ignorant = objective.ignorant(settings.batch_size)
        for axes, model in zip(panels[:, column], models, strict=False):
            _panel(axes, of_loss, model, ignorant, theme.PALETTE[column])
            if objective.logarithmic:
                axes.set_yscale("log", nonpositive="clip")
        top, values = panels[0, column], of_loss["value"]
        if models:
            title = f"{objective.title} (logarithmic)" if objective.logarithmic else objective.title
            top.set_title(title, fontsize=theme.TYPE, weight="normal", pad=4)
        if objective.logarithmic and len(values):
            top.set_ylim(max(LEAST, values.min() / 2), 2 * max(values.max(), ignorant or 0))
        else:
            top.set_ylim(bottom=0)
    for axes, model in zip(panels[:, 0], models, strict=False):
        name = textwrap.fill(theme.short(settings.title(model), 52), 26)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        theme.literal([axes.yaxis.label])
    for axes in panels[-1]:
        axes.set_xlabel("Step")
        axes.set_xlim(left=0)
    figure.align_ylabels(panels[:, 0])
    figure.subplots_adjust(
        left=0.24, right=0.985, top=1 - head / height, bottom=foot / height, wspace=0.2, hspace=0.18
    )
    n_steps = int(points["n_steps"].max()) if len(points) else 1
    means = "each step" if n_steps == 1 else f"means over up to {n_steps} steps"
    among = f"the {settings.batch_size} cells" if settings.batch_size else "the cells"
    lines = [
        f"Losses without their weights, {means}; in grey the other models. Dotted: an uninformed model",
        f"Contrast is among {among} of a batch; MoCo's is against a queue",
    ]
    theme.headed(figure, "Pre-training", lines, settings.toy)
    return figure


def _panel(axes: Axes, points: pd.DataFrame, model: str, ignorant: float | None, colour: str) -> None:
    """The curve of a model over those of all others, so that none hides another."""
    others, own = points[points["model"] != model], points[points["model"] == model]
    looks = ({"color": theme.GRID, "linewidth": 0.7}, {"color": colour, "linewidth": 1.1})
    for lines, look in zip((others, own), looks, strict=True):
        if len(lines):
            sns.lineplot(lines, x="step", y="value", units="model", estimator=None, ax=axes, **look)
    if ignorant is not None:
        axes.axhline(ignorant, color=theme.SOFT, linewidth=0.5, linestyle=(0, (1, 2)))
    if own.empty:
        axes.text(
            0.5, 0.5, "not in this model", ha="center", va="center", transform=axes.transAxes,
            color=theme.SOFT, fontsize=theme.SMALLEST_TYPE + 0.5,
        )  # fmt: skip
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=2, color=theme.INK, labelsize=theme.SMALLEST_TYPE + 0.5)
    axes.minorticks_off()
