"""Losses of pre-training by step: one panel per loss, one line per model."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from celllm.errors import UserError
from celllm.figures.numbers import read_numbers, write_figure
from celllm.figures.settings import ModelsFigureSettings
from celllm.figures.theme import (
    INK,
    PAGE_WIDTH,
    PALETTE,
    SMALLEST_TYPE,
    SOFT,
    TYPE,
    blank,
    headed,
    legend,
    mark,
)
from celllm.settings import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 100  # of a line at most; each is the mean over as many steps as that takes
HEIGHT = 62.0  # mm
PANELS = {"mlm": "Masked expressions", "tumour": "Tumour or normal", "contrast": "Contrast"}
IGNORANT = {"mlm": math.log(8), "tumour": math.log(2)}  # what a model scores that knows nothing
_STYLES = ("-", "--", "-.", ":")
_COLUMNS = ["model", "loss", "step", "value", "n_steps"]


def run_loss_curves(
    metrics: Mapping[str, str | Path], out: str | Path, settings: Mapping[str, Any] | str | None = None
) -> None:
    """Write ``<out>.png``, ``<out>.svg`` and the numbers behind them, ``<out>.csv``.

    The CSV has one line per point: model, loss, step (the last of those it stands for), value (their mean),
    n_steps.

    Parameters
    ----------
    metrics
        Tables of the steps by model, as :mod:`celllm.training.progress` writes them.
    settings
        :class:`ModelsFigureSettings` as mapping or JSON.

    Raises
    ------
    UserError
        For a file that is missing, of another kind, or without a step.
    """
    chosen = fill(ModelsFigureSettings, settings, "loss-curves: settings")
    points = pd.concat([curves(_read(path), model) for model, path in metrics.items()], ignore_index=True)
    write_figure(out, points, lambda: draw(points, list(metrics), chosen))


def _read(path: str | Path) -> pd.DataFrame:
    known = read_numbers(path, ["step", *PANELS], "pretrain")
    if known.empty:
        raise UserError(f"{path}: no step in it; pre-train before drawing")
    return known


def curves(steps: pd.DataFrame, model: str) -> pd.DataFrame:
    """Means of each loss over runs of consecutive steps, equally many in each but the last."""
    steps = steps.sort_values("step")
    at_once = math.ceil(len(steps) / POINTS)
    groups = steps.groupby(np.arange(len(steps)) // at_once)
    parts = [
        groups.agg(step=("step", "last"), value=(loss, "mean"), n_steps=("step", "size")).assign(
            model=model, loss=loss
        )
        for loss in PANELS
        if steps[loss].notna().all()
    ]
    return pd.concat(parts)[_COLUMNS] if parts else pd.DataFrame(columns=_COLUMNS)


def draw(points: pd.DataFrame, models: list[str], settings: ModelsFigureSettings) -> "Figure":
    """The panels side by side, the models' names below them."""
    figure = blank(PAGE_WIDTH, HEIGHT)
    panels = figure.subplots(1, len(PANELS))
    for axes, (loss, title) in zip(panels, PANELS.items(), strict=True):
        _panel(axes, points[points["loss"] == loss], models, IGNORANT.get(loss))
        axes.set_title(title, fontsize=TYPE, weight="normal")
    panels[0].set_ylabel("Loss")
    titles = [settings.titles.get(model, model) for model in models]
    rows = math.ceil(len(models) / 5)
    lines = [mark(**_look(number, len(models))) for number in range(len(models))]
    legend(figure, lines, titles, ncols=min(len(models), 5), handlelength=2.5)
    _titles(figure, settings, int(points["n_steps"].max()) if len(points) else 1)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.74, bottom=0.2 + 0.06 * rows, wspace=0.22)
    return figure


def _panel(axes: "Axes", points: pd.DataFrame, models: list[str], ignorant: float | None) -> None:
    for number, model in enumerate(models):
        line = points[points["model"] == model]
        axes.plot(line["step"], line["value"], **_look(number, len(models)))
    if ignorant is not None:
        axes.axhline(ignorant, color=SOFT, linewidth=0.5, linestyle=(0, (1, 2)))
        axes.annotate(
            "knows nothing",
            (1, ignorant),
            xycoords=("axes fraction", "data"),
            xytext=(0, 1.5),
            textcoords="offset points",
            ha="right",
            fontsize=SMALLEST_TYPE + 0.5,
            color=SOFT,
        )
    if points.empty:
        axes.text(0.5, 0.5, "in no model", ha="center", transform=axes.transAxes, color=SOFT)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Step")
    axes.tick_params(length=2, color=INK)


def _look(number: int, n: int) -> dict[str, Any]:
    """Line of a model: no two of up to 32 are alike, and the first are wide, to be seen under the last."""
    style = _STYLES[(number // len(PALETTE)) % len(_STYLES)]
    width = 2.6 - 1.8 * number / max(1, n - 1)
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style, "linewidth": width}


def _titles(figure: "Figure", settings: ModelsFigureSettings, n_steps: int) -> None:
    """Title, what a point is and, for a toy, what it is worth."""
    means = "each step" if n_steps == 1 else f"means over up to {n_steps} steps"
    lines = [
        f"Losses without their weights, {means}. Contrast is among the cells of a batch; MoCo's, a queue"
    ]
    headed(figure, "Pre-training", lines, settings.toy)
