"""The benchmark's heads on embeddings made elsewhere: k-NN, a linear probe, and the head of the paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from celllm.cells.embeddings import read_embeddings
from celllm.methods import celllm_labels, linear
from celllm.methods.celllm_labels import LabelTuner
from celllm.methods.method import (
    Announce,
    Choice,
    Labels,
    Method,
    NotApplicableError,
    Part,
    Predict,
    Probabilities,
)
from celllm.methods.settings import LinearSettings, NearestSettings
from celllm.model.heads import feed_forward
from celllm.training.finetune import Finetuner
from celllm.training.settings import FinetuneSettings

Vectors = NDArray[np.float32]


def prepare(cells: Part, settings: Any, row: Mapping[str, Any]) -> Vectors:
    """The embeddings that the row's key ``embedding`` names, (n_cells, dim) in the order of the data set.

    Raises
    ------
    NotApplicableError
        When the row has none for this data set.
    UserError
        See :func:`celllm.cells.embeddings.read_embeddings`.
    """
    if not row.get("embedding"):
        raise NotApplicableError("the row's `file` names no embedding of this data set")
    return read_embeddings(row["embedding"], cells.ids.tolist())


def fit_nearest(train: Part, settings: NearestSettings, seed: int, shared: Vectors) -> Predict:
    """Majority of the k nearest training cells, by Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(settings.k, len(train))).fit(shared[train.rows], train.known)
    return lambda part: Probabilities(model.predict_proba(shared[part.rows]), model.classes_)


def fit_linear(train: Part, settings: LinearSettings, seed: int, shared: Vectors) -> Predict:
    """Logistic regression with L2 penalty; each dimension is standardised over the training cells."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=settings.c, max_iter=settings.max_iterations)
    ).fit(shared[train.rows], train.known)
    return lambda part: Probabilities(model.predict_proba(shared[part.rows]), model.classes_)


def choose_linear(
    train: Part,
    selection: Part,
    settings: LinearSettings,
    seed: int,
    shared: Vectors,
    announce: Announce | None = None,
) -> Choice[Part, Labels | Probabilities]:
    """The penalty, as for the linear classifiers on expression."""
    return linear.choose_c(train, selection, settings, seed, announce, fit=partial(fit_linear, shared=shared))


@dataclass(frozen=True)
class _VectorStates:
    """Vectors in the place of what frozen layers make of cells."""

    x: Tensor
    device = torch.device("cpu")

    def expect(self, rows: NDArray[np.int64]) -> None:
        """All of them are there already."""

    def chunks(self, rows: NDArray[np.int64], token_budget: int) -> list[NDArray[np.int64]]:
        return [np.arange(len(rows))]

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        return self.x[torch.from_numpy(rows)]


class VectorTuner(Finetuner):
    """Fits the paper's head (Table F.1) on vectors of all cells, in the place of the pooled genes.

    What the settings say of the encoder's layers has no effect.
    """

    def __init__(self, x: Vectors, n_classes: int, settings: FinetuneSettings) -> None:
        self.settings, self.n_classes = settings, n_classes
        self.states: Any = _VectorStates(torch.from_numpy(x))
        self.token_budget, self.precision = 0, torch.float32

    def _model(self, rows: NDArray[np.int64]) -> nn.Module:
        sizes = (self.states.x.shape[1], *self.settings.head, self.n_classes)
        return feed_forward(sizes, self.settings.activation, self.settings.dropout)


def _tuner(vectors: Vectors, train: Part, settings: FinetuneSettings) -> LabelTuner:
    """The head on dimensions standardised over the training cells: a learning rate fits no scale but one."""
    assert train.classes is not None
    mean, sd = vectors[train.rows].mean(axis=0), vectors[train.rows].std(axis=0)
    standardised = (vectors - mean) / np.where(sd > 0, sd, 1)
    return LabelTuner(VectorTuner(standardised, len(train.classes), settings), train.classes)


def fit_head(train: Part, settings: FinetuneSettings, seed: int, shared: Vectors) -> Predict:
    """The paper's head, for ``settings.epochs`` epochs."""
    return celllm_labels.fit(train, settings, seed, _tuner(shared, train, settings))


def choose_head(
    train: Part,
    selection: Part,
    settings: FinetuneSettings,
    seed: int,
    shared: Vectors,
    announce: Announce | None = None,
) -> Choice[Part, Labels | Probabilities]:
    """The same, the number of epochs chosen on the selection part."""
    return celllm_labels.choose(train, selection, settings, seed, _tuner(shared, train, settings), announce)


METHODS = {
    "knn": Method(fit_nearest, NearestSettings, prepare=prepare),
    "linear": Method(fit_linear, LinearSettings, choose_linear, prepare, announces=True),
    "paper": Method(fit_head, FinetuneSettings, choose_head, prepare, announces=True),
}
