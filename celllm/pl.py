"""Plots of labels and their confidence, which scanpy has not; for embeddings there is ``sc.pl.embedding``."""

from typing import TYPE_CHECKING

import numpy as np

from celllm.errors import UserError
from celllm.scores.metrics import calibration_error

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure

BINS = 10


def confusion(
    adata: "AnnData", label_key: str, predicted_key: str = "celllm_label", title: str = "Labels"
) -> "Figure":
    """Heatmap of known labels against predicted ones, in per cent of each known label.

    Parameters
    ----------
    adata
        Cells with both columns in ``obs``; those without a known label are left out.
    label_key, predicted_key
        Columns of ``obs``.
    title
        Above the figure.

    Raises
    ------
    UserError
        For a column that is not there, and where no cell has both labels.
    """
    from celllm.figures import fig3, theme

    obs = _columns(adata, label_key, predicted_key)
    frame = obs.astype(str).set_axis(["label", "predicted"], axis=1)
    counts = fig3.confusion(frame, {})
    with theme.theme():
        return fig3.heatmap(counts, list(counts.index), title, f"{len(frame):,} cells")


def reliability(
    adata: "AnnData",
    label_key: str,
    predicted_key: str = "celllm_label",
    confidence_key: str = "celllm_confidence",
) -> "Figure":
    """Share of right labels by confidence: on the diagonal where a confidence is what it claims.

    Parameters
    ----------
    adata
        Cells with the three columns in ``obs``; those without a known label are left out.
    label_key, predicted_key, confidence_key
        Columns of ``obs``.

    Raises
    ------
    UserError
        For a column that is not there, and where no cell has all three.
    """
    import seaborn as sns

    from celllm.figures import theme

    obs = _columns(adata, label_key, predicted_key, confidence_key)
    right = (obs[label_key].astype(str) == obs[predicted_key].astype(str)).to_numpy()
    confidence = obs[confidence_key].to_numpy(float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    x = [confidence[bins == b].mean() for b in filled]
    y = [right[bins == b].mean() for b in filled]
    with theme.theme():
        figure = theme.blank(theme.COLUMN_WIDTH, theme.COLUMN_WIDTH)
        axes = figure.add_axes((0.16, 0.13, 0.8, 0.72))
        axes.plot([0, 1], [0, 1], color=theme.SOFT, linewidth=0.6, linestyle="--")
        sizes = [max(10.0, 200 * float((bins == b).mean())) for b in filled]
        sns.scatterplot(x=x, y=y, s=sizes, ax=axes, legend=False)
        axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="Mean confidence", ylabel="Share of right labels")
        error = calibration_error(right, confidence, BINS)
        note = f"{len(obs):,} cells; expected calibration error {error:.3f}"
        theme.headed(figure, "Confidence", [note, "Size of a point: cells in the bin"], toy=False)
    return figure


def _columns(adata: "AnnData", *names: str) -> "pd.DataFrame":
    for name in names:
        if name not in adata.obs:
            there = ", ".join(map(str, adata.obs)) or "none"
            raise UserError(f"obs has no column '{name}'; there are {there}")
    obs = adata.obs[list(names)].dropna()
    if obs.empty:
        raise UserError(f"no cell has a value in all of {', '.join(names)}")
    return obs
