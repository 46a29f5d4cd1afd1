"""Plots for an AnnData of one's own."""

import anndata
import numpy as np
import pandas as pd
import pytest

import celllm
from celllm.errors import UserError


@pytest.fixture
def labelled() -> anndata.AnnData:
    obs = pd.DataFrame(
        {
            "cell_type": ["a", "a", "b", "b", None, "$c"],
            "celllm_label": ["a", "b", "b", "b", "a", "b"],
            "celllm_confidence": [0.95, 0.92, 0.91, 0.3, 0.5, 0.35],
        },
        index=[f"cell{i}" for i in range(6)],
    )
    obs["celllm_label"] = obs["celllm_label"].astype("category")
    return anndata.AnnData(np.ones((6, 2), dtype=np.float32), obs=obs)


def test_confusion_shows_every_class_and_the_cells_with_a_known_label(labelled: anndata.AnnData) -> None:
    figure = celllm.pl.confusion(labelled, "cell_type", title="Mine")
    texts = [text.get_text() for text in figure.texts]
    assert texts[0] == "Mine" and texts[1].startswith("5 cells")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "$c"]
    written = {text.get_text() for text in axes.texts}
    assert {"50", "100"} <= written


def test_reliability_gives_bins_and_the_error_by_hand(labelled: anndata.AnnData) -> None:
    figure = celllm.pl.reliability(labelled, "cell_type")
    x, y = figure.axes[0].collections[0].get_offsets().T
    assert np.allclose(x, [(0.3 + 0.35) / 2, (0.95 + 0.92 + 0.91) / 3])
    assert np.allclose(y, [1 / 2, 2 / 3])
    by_hand = 2 / 5 * abs(0.325 - 1 / 2) + 3 / 5 * abs(2.78 / 3 - 2 / 3)
    assert f"error {by_hand:.3f}" in figure.texts[1].get_text()


def test_columns_that_are_not_there_are_named(labelled: anndata.AnnData) -> None:
    with pytest.raises(UserError, match="no column 'type'; there are cell_type, celllm_label"):
        celllm.pl.confusion(labelled, "type")
    labelled.obs["none"] = None
    with pytest.raises(UserError, match="no cell has a value in all of none, celllm_label"):
        celllm.pl.confusion(labelled, "none")
