"""Drug response from a pre-trained encoder: cell vector and drug vector side by side, then linear layers.

As in the authors' released code the last Performer layer, the final norm and everything on top of them are
trained. The cell lines are few and their pairs many, so the encoder runs once for each line of a step, on the
kept output of the frozen layers, and never for a pair.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from celllm.training.settings import ResponseSettings
from celllm.training.trainer import resolve_precision


class ResponseModel(PairModel):
    """Cell tower, drug encoder and regression.

    Parameters
    ----------
    states : FrozenStates
        Of the cell lines; on the device of the encoder.
    genes : int array
        Vocabulary indices of the genes that a line can have.
    drug_encoder : nn.Module
        Maps numbers of n drugs to (n, settings.drug_size), on the CPU.
    settings : ResponseSettings
        See there.
    """

    def __init__(
        self, states: FrozenStates, genes: Numbers, drug_encoder: nn.Module, settings: ResponseSettings
    ) -> None:
        super().__init__()
        self.states, self.settings, self.drug_encoder = states, settings, drug_encoder
        self.token_budget = states.store.token_budget
        self.precision = resolve_precision(settings.precision, states.device)
        tower = FinetuneSettings(
            head=settings.cell_layers[:-1],
            dropout=settings.dropout,
            pooling_activation=settings.pooling_activation,
        )
        self.cells = FineTuned(states.encoder, states.n_frozen, genes, settings.cell_layers[-1], tower)
        self.cells.to(states.device)
        sizes = [settings.drug_size + settings.cell_layers[-1], *settings.regression_layers, 1]
        self.regression = feed_forward(sizes, settings.activation, settings.dropout).to(states.device)

    @torch.no_grad()
    def start_at(self, mean: float) -> None:
        """Set the last bias."""
        last = self.regression[-1]
        assert isinstance(last, nn.Linear)
        last.bias.fill_(mean)

    def forward(self, lines: Numbers, drugs: Numbers) -> Tensor:
        """Numbers of n lines and n drugs -> responses (n,); each line and each drug is encoded once."""
        chosen_lines, line_of = np.unique(lines, return_inverse=True)
        chosen_drugs, drug_of = np.unique(drugs, return_inverse=True)
        drug_vectors = self.drug_encoder(chosen_drugs).to(self.states.device)
        both = torch.cat([drug_vectors[drug_of], self._encode(chosen_lines)[line_of]], dim=1)
        return self.regression(both).squeeze(1)

    def _encode(self, lines: Numbers) -> Tensor:
        """Vectors of different lines (n, cell vector): the encoder in passes, the head for all at once."""
        chunks = self.states.chunks(lines, self.token_budget)
        enabled = self.precision != torch.float32
        with torch.autocast(self.states.device.type, self.precision if enabled else None, enabled=enabled):
            pooled = torch.cat([self.cells.pooled(self.states.take(lines[chunk])) for chunk in chunks])
            place = torch.from_numpy(np.argsort(np.concatenate(chunks)))
            vectors = self.cells.head.layers(pooled[place])
        return F.dropout(F.relu(vectors.float()), self.settings.dropout, self.training)

    def backward(self, lines: Numbers, drugs: Numbers, responses: Floats) -> float:
        """Add the gradient of the mean squared error over these pairs; return that error."""
        wanted = torch.as_tensor(responses, dtype=torch.float32, device=self.states.device)
        loss = F.mse_loss(self(lines, drugs), wanted)
        loss.backward()
        return loss.item()

    @torch.no_grad()
    def predict(self, lines: Numbers, drugs: Numbers) -> Floats:
        """Predict these pairs, in their order, without dropout."""
        self.eval()
        return self(lines, drugs).cpu().numpy().astype(np.float64)


class ResponseTuner:
    """Fits models of drug response on one set of cell lines; frozen layers run once per line for all of them.

    Parameters
    ----------
    embedder : Embedder
        Pre-trained, on the device to be used; never changed.
    cells : Cells
        The cell lines.
    genes : int array
        Vocabulary indices of the lines' genes.
    drug_encoder : callable
        Makes an untrained drug encoder, see :class:`ResponseModel`.
    settings : ResponseSettings
        See there.
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
        self.genes = genes_read(embedder.tokeniser, genes)
        self.states = freeze(embedder, cells, settings)

    def fit(self, pairs: KnownPairs, epochs: int, seed: int) -> ResponseModel:
        """Train a model for a number of epochs.

        Parameters
        ----------
        pairs
            Pairs to learn from.
        epochs : int
            See :class:`RegressionSettings`.
        seed : int
            Of the first weights, of dropout and of the order of the pairs.

        Raises
        ------
        NotFiniteError
            When the loss is not a finite number.
        """
        with self._seeded(seed):
            return fit(self._model(), pairs, self.settings, epochs, np.random.default_rng(seed))

    def choose(
        self, pairs: KnownPairs, selection: KnownPairs, score: Score, seed: int
    ) -> ChosenEpoch[Indices, Floats]:
        """Train until patience ends, the best epoch chosen on other pairs by ``score(true, predicted)``."""
        with self._seeded(seed):
            order = np.random.default_rng(seed)
            return choose(self._model(), pairs, selection, self.settings, score, order)

    def _model(self) -> ResponseModel:
        return ResponseModel(self.states, self.genes, self.drug_encoder(), self.settings)

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        device = self.states.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
