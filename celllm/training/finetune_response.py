"""Drug response as in TGDRP: cell vector and drug vector side by side, then linear layers.

As in the authors' released code the last Performer layer, the final norm and everything on top of them are
trained. The cell lines are few and their pairs many, so the encoder runs once for each line of a step, on the
kept output of the frozen layers, and never for a pair; the drug encoder runs once for all drugs of the step.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from celllm.corpus.expressed import Cells
from celllm.model.embedder import Embedder
from celllm.model.heads import feed_forward
from celllm.training.best_epoch import ChosenEpoch
from celllm.training.finetune import FineTuned, FinetuneSettings
from celllm.training.frozen import FrozenStates, freeze, genes_read
from celllm.training.randomness import seeded
from celllm.training.regression import (
    Floats,
    Indices,
    KnownPairs,
    Numbers,
    PairModel,
    Score,
    choose,
    fit,
)
from celllm.training.settings import ResponseSettings, TgdrpSettings
from celllm.training.trainer import resolve_precision


class ResponseModel(PairModel):
    """Cell lines, drugs and the regression on both.

    ``lines`` maps numbers of n lines to (n, settings.cell_layers[-1]), ``drugs`` numbers of n different drugs
    to (n, settings.drug_size), on the same device.
    """

    def __init__(self, lines: nn.Module, drugs: nn.Module, settings: TgdrpSettings) -> None:
        super().__init__()
        self.lines, self.drugs = lines, drugs
        sizes = [settings.drug_size + settings.cell_layers[-1], *settings.regression_layers, 1]
        self.regression = feed_forward(sizes, settings.activation, settings.dropout)

    @torch.no_grad()
    def start_at(self, mean: float) -> None:
        """Set the last bias."""
        last = self.regression[-1]
        assert isinstance(last, nn.Linear)
        last.bias.fill_(mean)

    def forward(self, lines: Numbers, drugs: Numbers) -> Tensor:
        """Numbers of n lines and n drugs -> responses (n,); each drug is encoded once."""
        chosen, drug_of = np.unique(drugs, return_inverse=True)
        both = torch.cat([self.drugs(chosen)[drug_of], self.lines(lines)], dim=1)
        return self.regression(both).squeeze(1)


class EncodedLines(nn.Module):
    """Vectors of cell lines from the trained part of an encoder, each line encoded once.

    ``genes`` are vocabulary indices of the genes that a line can have.
    """

    def __init__(self, states: FrozenStates, genes: Numbers, settings: ResponseSettings) -> None:
        super().__init__()
        self.states, self.dropout = states, settings.dropout
        self.token_budget = states.store.token_budget
        self.precision = resolve_precision(settings.precision, states.device)
        head = FinetuneSettings(
            head=settings.cell_layers[:-1],
            dropout=settings.dropout,
            pooling_activation=settings.pooling_activation,
        )
        self.cells = FineTuned(states.encoder, states.n_frozen, genes, settings.cell_layers[-1], head)

    def forward(self, lines: Numbers) -> Tensor:
        """Numbers of n lines -> (n, cell vector)."""
        chosen, line_of = np.unique(lines, return_inverse=True)
        chunks = self.states.chunks(chosen, self.token_budget)
        enabled = self.precision != torch.float32
        with torch.autocast(self.states.device.type, self.precision if enabled else None, enabled=enabled):
            pooled = torch.cat([self.cells.pooled(self.states.take(chosen[chunk])) for chunk in chunks])
            place = torch.from_numpy(np.argsort(np.concatenate(chunks)))
            vectors = self.cells.head.layers(pooled[place])
        return F.dropout(F.relu(vectors.float()), self.dropout, self.training)[line_of]


class ResponseTuner:
    """Fits models of drug response on one set of cell lines; frozen layers run once per line for all of them.

    The embedder is pre-trained, on the device to be used, and never changed. With ``line_bins: log2_tpm`` the
    cell lines are from :func:`celllm.corpus.expressed.not_normalised`. ``drug_encoder`` makes an untrained
    one, see :class:`ResponseModel`.
    """

    def __init__(
        self,
        embedder: Embedder,
        cells: Cells,
        genes: Numbers,
        drug_encoder: Callable[[], nn.Module],
        settings: ResponseSettings,
    ) -> None:
        self.settings, self.drug_encoder = settings, drug_encoder
        if settings.line_bins == "log2_tpm":
            embedder = replace(embedder, tokeniser=replace(embedder.tokeniser, log_base="2"))
        self.genes = genes_read(embedder.tokeniser, genes)
        self.states = freeze(embedder, cells, settings)

    def fit(self, pairs: KnownPairs, epochs: int, seed: int) -> ResponseModel:
        """Train a model for a number of epochs; a loss that is no finite number is a :class:`NotFiniteError`.

        The seed is that of the first weights, of dropout and of the order of the pairs.
        """
        with seeded(seed, self.states.device):
            return fit(self.model(), pairs, self.settings, epochs, np.random.default_rng(seed))

    def choose(
        self, pairs: KnownPairs, selection: KnownPairs, score: Score, seed: int
    ) -> ChosenEpoch[Indices, Floats]:
        """Train until patience ends, the best epoch chosen on other pairs by ``score(true, predicted)``."""
        with seeded(seed, self.states.device):
            order = np.random.default_rng(seed)
            return choose(self.model(), pairs, selection, self.settings, score, order)

    def model(self) -> ResponseModel:
        """An untrained model of random numbers that are drawn now."""
        lines = EncodedLines(self.states, self.genes, self.settings)
        return ResponseModel(lines, self.drug_encoder(), self.settings).to(self.states.device)
