"""A pre-trained encoder, fine-tuned, as a method of cell annotation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import from_csr
from celllm.methods.method import Labels, Method, Part, Predict
from celllm.scores import metrics
from celllm.settings import fill
from celllm.training.finetune import Finetuner, FinetuneSettings
from celllm.training.model_row import read_embedder


def encoder_method(
    file: str | Path | None,
    row: Mapping[str, Any],
    settings: Mapping[str, Any] | str | None,
    cells: Part,
    genes: NDArray[np.int64],
    vocabulary: Vocabulary,
) -> tuple[Method, FinetuneSettings, bool]:
    """Make a method of an encoder; the output of its frozen layers is shared by all fits.

    Parameters
    ----------
    file : path, optional
        The pre-trained encoder; None starts from random numbers, for a row that says ``pretrained: false``.
    row : mapping
        The model's row.
    settings : mapping or JSON
        See :class:`FinetuneSettings`.
    cells : Part
        All cells of the data set: each is encoded when a fit or a prediction asks for it, by itself.
    genes : int64 array
        Vocabulary index of each column of the counts.
    vocabulary : Vocabulary
        The genes of the run.

    Returns
    -------
    The method, its settings, and whether it runs on a GPU.

    Raises
    ------
    UserError
        For wrong settings, or an encoder that is missing, damaged or of another gene list.
    """
    chosen = fill(FinetuneSettings, settings)
    embedder = read_embedder(file, row, vocabulary)
    classes = np.unique(cells.known)
    tuner = Finetuner(embedder, from_csr(cells.counts, genes), genes, len(classes), chosen)
    score = {"macro_f1": metrics.macro_f1, "accuracy": metrics.accuracy}[chosen.select_by]

    def fit(train: Part, selection: Part | None, settings: FinetuneSettings, seed: int) -> Predict:
        if selection is None:
            raise ValueError("fine-tuning chooses its epoch on a selection part, and there is none")
        targets, chosen_on = (np.searchsorted(classes, part.known) for part in (train, selection))
        predict = tuner.fit(train.rows, targets, selection.rows, chosen_on, score, seed)

        def labels(part: Part) -> Labels:
            return classes[predict(part.rows)]

        return labels

    return Method(fit, FinetuneSettings, chooses=True), chosen, embedder.device.type == "cuda"
