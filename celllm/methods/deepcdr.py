"""DeepCDR on expression alone as the authors of CellLM ran it, the row "DeepCDR" of Table 3.

Their code keeps DeepCDR's two layers on the expression and puts them, as any other encoder of cells, into
TGDRP: GIN on the drugs and linear layers on both. DeepCDR itself is :mod:`.deepcdr_original`.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from celllm.graph.drugs import Drugs
from celllm.methods.celllm_response import gin_encoder
from celllm.methods.method import Choice, Method
from celllm.methods.pairs import Pairs, Predict, Responses, chosen_epoch, known_pairs, selection_score
from celllm.methods.settings import DeepCdrSettings
from celllm.model.embedder import find_device
from celllm.model.heads import feed_forward
from celllm.training.finetune_response import ResponseModel
from celllm.training.randomness import seeded
from celllm.training.regression import Numbers, PairModel, choose, fit
from celllm.training.settings import RegressionSettings


class ExpressionLines(nn.Module):
    """Vectors of cell lines from log2(TPM + 1) of their genes (n_lines, n_genes), not centred or scaled."""

    expression: Tensor

    def __init__(self, expression: np.ndarray, settings: DeepCdrSettings) -> None:
        super().__init__()
        self.register_buffer("expression", torch.from_numpy(expression), persistent=False)
        first, second = settings.expression_layers
        self.first = nn.Linear(expression.shape[1], first)
        self.rest = nn.Sequential(
            nn.Tanh(),
            nn.BatchNorm1d(first),
            nn.Dropout(settings.expression_dropout),
            nn.Linear(first, second),
        )
        self.cells = feed_forward([second, *settings.cell_layers], "relu", settings.dropout, last=True)

    def forward(self, lines: Numbers) -> Tensor:
        """Numbers of n lines -> (n, cell vector); batch norm counts a line as often as it stands there."""
        chosen, line_of = np.unique(lines, return_inverse=True)
        return self.cells(self.rest(self.first(self.expression[chosen])[line_of]))


def untrained(train_on: Pairs, settings: DeepCdrSettings) -> ResponseModel:
    """A new model, on the CPU."""
    screen = train_on.screen
    lines = ExpressionLines(screen.log2_tpm, settings)
    return ResponseModel(lines, gin_encoder(Drugs(screen.molecules), settings), settings)


S = TypeVar("S", bound=RegressionSettings)


def network(make: Callable[[Pairs, S], PairModel], settings: type[S]) -> Method[Pairs, Responses]:
    """The method of a network that ``make`` makes untrained; its number of epochs is chosen."""

    def fit_network(train: Pairs, settings: S, seed: int) -> Predict:
        with seeded(seed, find_device()):
            model = make(train, settings).to(find_device())
            fit(model, known_pairs(train), settings, settings.epochs, np.random.default_rng(seed))
        return lambda pairs: model.predict(pairs.lines, pairs.drugs)

    def choose_network(train: Pairs, selection: Pairs, settings: S, seed: int) -> Choice[Pairs, Responses]:
        score, order = selection_score(settings.select_by), np.random.default_rng(seed)
        with seeded(seed, find_device()):
            model = make(train, settings).to(find_device())
            found = choose(model, known_pairs(train), known_pairs(selection), settings, score, order)
        return chosen_epoch(found)

    return Method(fit_network, settings, choose_network)


METHODS = {"deepcdr": network(untrained, DeepCdrSettings)}
