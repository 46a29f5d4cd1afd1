"""A pre-trained encoder, fine-tuned, as a method of cell annotation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from celllm.corpus.expressed import from_csr
from celllm.methods.method import Announce, Choice, Labels, Method, Part, Predict, Probabilities
from celllm.scores import metrics
from celllm.training.finetune import Finetuner, FinetuneSettings
from celllm.training.finetune import Predict as OfRows
from celllm.training.model_row import read_embedder


@dataclass(frozen=True)
class LabelTuner:
    """An encoder on the cells of a data set: the output of its frozen layers is shared by all fits."""

    tuner: Finetuner
    classes: Labels

    def targets(self, part: Part) -> NDArray[np.int64]:
        """Classes of cells by number."""
        return np.searchsorted(self.classes, part.known)

    def labels(self, predict: OfRows) -> Predict:
        """From places of cells in the data set to cells."""
        return lambda part: Probabilities(predict(part.rows), self.classes)


def prepare(cells: Part, settings: FinetuneSettings, row: Mapping[str, Any]) -> LabelTuner:
    """Read the row's encoder (its key ``encoder``) or make the untrained one of ``pretrained: false``.

    Each cell is encoded when a fit or a prediction asks for it, by itself.

    Raises :class:`UserError` for an encoder that is missing, damaged or of another gene list.
    """
    assert cells.genes is not None and cells.classes is not None
    embedder = read_embedder(row.get("encoder"), row, cells.genes.vocabulary)
    genes, n_classes = cells.genes.ids, len(cells.classes)
    tuner = Finetuner(embedder, from_csr(cells.counts, genes), genes, n_classes, settings)
    return LabelTuner(tuner, cells.classes)


def fit(train: Part, settings: FinetuneSettings, seed: int, shared: LabelTuner) -> Predict:
    """Fine-tune on the training cells for ``settings.epochs`` epochs."""
    return shared.labels(shared.tuner.fit(train.rows, shared.targets(train), settings.epochs, seed))


def choose(
    train: Part,
    selection: Part,
    settings: FinetuneSettings,
    seed: int,
    shared: LabelTuner,
    announce: Announce | None = None,
) -> Choice[Part, Labels | Probabilities]:
    """Fine-tune on the training cells, the number of epochs chosen on the selection part."""
    score = {"macro_f1": metrics.macro_f1, "accuracy": metrics.accuracy}[settings.select_by]
    targets, chosen_on = shared.targets(train), shared.targets(selection)

    def after(epochs: int, predict: OfRows, seconds: float) -> None:
        if announce is not None:
            announce({"epochs": epochs}, shared.labels(predict), seconds)

    found = shared.tuner.choose(train.rows, targets, selection.rows, chosen_on, score, seed, after)
    models = shared.labels(found.predict), shared.labels(found.predict_last)
    return Choice({"epochs": found.epochs}, *models)


METHODS = {"encoder": Method(fit, FinetuneSettings, choose, prepare, announces=True)}
