"""DeepCDR (Liu et al. 2020, Bioinformatics 36:i911) on expression alone.

It is no row of the paper, whose "DeepCDR" is :mod:`.deepcdr`.
"""

import numpy as np
import torch
from torch import Tensor, nn

from celllm.graph.drugs import Drugs, GcnEncoder
from celllm.methods.deepcdr import network
from celllm.methods.expression import centred
from celllm.methods.pairs import Pairs
from celllm.methods.settings import DeepCdrOriginalSettings
from celllm.training.regression import Floats, Numbers, PairModel

BLOCK = 4096  # pairs that are predicted at a time
JOINT = 300  # width of the layer that joins drug and cell line; the convolutions leave 30 numbers of it


class DeepCdrOriginal(PairModel):
    """Graph convolutions on the drug, two layers on the expression, convolutions on both.

    The expression (n_lines, n_genes) is centred, and of mean variance 1.
    """

    expression: Tensor

    def __init__(self, expression: np.ndarray, drugs: Drugs, settings: DeepCdrOriginalSettings) -> None:
        super().__init__()
        drop = settings.dropout
        self.register_buffer("expression", torch.from_numpy(expression), persistent=False)
        self.drugs = GcnEncoder(drugs, settings.drug_layers, drop, settings.drug_pooling)
        first, second = settings.cell_layers
        self.cells = nn.Sequential(
            nn.Linear(expression.shape[1], first),
            nn.Tanh(),
            nn.BatchNorm1d(first),
            nn.Dropout(drop),
            nn.Linear(first, second),
            nn.ReLU(),
        )
        self.joint = nn.Sequential(
            nn.Linear(settings.drug_layers[-1] + second, JOINT),
            nn.Tanh(),
            nn.Dropout(drop),
            nn.Unflatten(1, (1, JOINT)),
            *_convolution(1, 30, width=150, pool=2),
            *_convolution(30, 10, width=5, pool=3),
            *_convolution(10, 5, width=5, pool=3),
            nn.Dropout(drop),
            nn.Flatten(),
            nn.Dropout(2 * drop),
        )
        self.out = nn.Linear(30, 1)

    def forward(self, lines: Numbers, drugs: Numbers) -> Tensor:
        """Numbers of n lines and n drugs -> responses (n,); each drug is encoded once."""
        chosen, drug_of = np.unique(drugs, return_inverse=True)
        return self._respond(lines, self.drugs(chosen)[drug_of])

    def _respond(self, lines: Numbers, drugs: Tensor) -> Tensor:
        cells = self.cells(self.expression[lines])
        return self.out(self.joint(torch.cat([drugs, cells], dim=1))).squeeze(1)

    @torch.no_grad()
    def predict(self, lines: Numbers, drugs: Numbers) -> Floats:
        """Predict these pairs, in their order, without dropout."""
        self.eval()
        chosen, drug_of = np.unique(drugs, return_inverse=True)
        vectors = self.drugs(chosen)
        out = np.empty(len(lines))
        for start in range(0, len(lines), BLOCK):
            part = slice(start, start + BLOCK)
            out[part] = self._respond(lines[part], vectors[drug_of[part]]).cpu().numpy()
        return out

    @torch.no_grad()
    def start_at(self, mean: float) -> None:
        """Set the last bias."""
        self.out.bias.fill_(mean)


def _convolution(n_in: int, n_out: int, width: int, pool: int) -> tuple[nn.Module, ...]:
    return nn.Conv1d(n_in, n_out, width), nn.ReLU(), nn.MaxPool1d(pool)


def untrained(train_on: Pairs, settings: DeepCdrOriginalSettings) -> DeepCdrOriginal:
    """A new model; genes are centred on the training lines and scaled by one number for all."""
    screen = train_on.screen
    x = centred(screen.expression, np.unique(train_on.lines))
    expression = (x * np.sqrt(x.shape[1])).astype(np.float32)
    return DeepCdrOriginal(expression, Drugs(screen.molecules), settings)


METHODS = {"deepcdr_original": network(untrained, DeepCdrOriginalSettings)}
