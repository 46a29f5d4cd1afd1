"""A pre-trained encoder, fine-tuned, as a method of cell annotation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from celllm.corpus.expressed import from_csr
from celllm.methods.method import Labels, Method, Part, Predict
from celllm.scores import metrics
from celllm.training.finetune import Finetuner, FinetuneSettings
from celllm.training.model_row import read_embedder


@dataclass(frozen=True)
class LabelTuner:
    """An encoder on the cells of a data set: the output of its frozen layers is shared by all fits."""

    tuner: Finetuner
    classes: Labels


def prepare(cells: Part, settings: FinetuneSettings, row: Mapping[str, Any]) -> LabelTuner:
    """Read the row's encoder (its key ``encoder``) or make the untrained one of ``pretrained: false``.

    Each cell is encoded when a fit or a prediction asks for it, by itself.

    Raises
    ------
    UserError
        For an encoder that is missing, damaged or of another gene list.
    """
    assert cells.genes is not None and cells.classes is not None
    embedder = read_embedder(row.get("encoder"), row, cells.genes.vocabulary)
    genes, n_classes = cells.genes.ids, len(cells.classes)
    tuner = Finetuner(embedder, from_csr(cells.counts, genes), genes, n_classes, settings)
    return LabelTuner(tuner, cells.classes)


def fit(train: Part, selection: Part | None, prepared: LabelTuner, seed: int) -> Predict:
    """Fine-tune on the training cells, the epoch chosen on the selection part."""
    if selection is None:
        raise ValueError("fine-tuning chooses its epoch on a selection part, and there is none")
    classes, tuner = prepared.classes, prepared.tuner
    score = {"macro_f1": metrics.macro_f1, "accuracy": metrics.accuracy}[tuner.settings.select_by]
    targets, chosen_on = (np.searchsorted(classes, part.known) for part in (train, selection))
    predict = tuner.fit(train.rows, targets, selection.rows, chosen_on, score, seed)

    def labels(part: Part) -> Labels:
        return classes[predict(part.rows)]

    return labels


METHODS = {"encoder": Method(fit, FinetuneSettings, chooses=True, prepare=prepare)}
