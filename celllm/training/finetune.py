"""Fine-tuning: the upper layers of a pre-trained encoder learn the classes of labelled cells.

As in the authors' released code, the last Performer layer, the final norm and the head are trained and all
else stays as pre-trained; where the paper's Table F.1 gives a number it is the default here.
"""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from celllm.corpus.expressed import Cells
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.heads import ClassificationHead
from celllm.optimiser import adam
from celllm.training.best_epoch import BestEpoch, ChosenEpoch, finite
from celllm.training.frozen import States, freeze, genes_read
from celllm.training.randomness import seeded
from celllm.training.schedule import cosine_restarts
from celllm.training.settings import FinetuneSettings
from celllm.training.trainer import resolve_precision

log = logging.getLogger(__name__)

# Takes true and predicted classes of the selection part; higher is better.
Score = Callable[[NDArray[np.int64], NDArray[np.int64]], float]
# From places of cells to the probabilities of their classes.
Predict = Callable[[NDArray[np.int64]], NDArray[np.float64]]


class FineTuned(nn.Module):
    """The trained part: upper layers and final norm of an encoder, and a classification head.

    The head reads the places of the data set's genes only. All other places of the paper's full gene vector
    are zero for every cell of the data set: their weights would get no gradient and change no output.

    Of the encoder the layers from ``n_frozen`` on are copied, and keep the dropout of pre-training; ``genes``
    are vocabulary indices of the genes that cells of the data set can have. The settings are those of the
    head.
    """

    places: Tensor

    def __init__(
        self,
        encoder: Encoder,
        n_frozen: int,
        genes: NDArray[np.int64],
        n_classes: int,
        settings: FinetuneSettings,
    ) -> None:
        super().__init__()
        config = encoder.config
        self.layers = copy.deepcopy(encoder.layers[n_frozen:])
        self.norm = copy.deepcopy(encoder.norm) if n_frozen < config.depth else nn.Identity()
        self.layers[len(self.layers) - settings.frozen_top :].requires_grad_(False)
        self.head = ClassificationHead(
            len(genes),
            config.dim,
            (*settings.head, n_classes),
            settings.activation,
            settings.dropout,
            settings.pooling_activation,
        )
        # The first linear layer starts as if it read the full gene vector: its length sets the first range.
        with torch.no_grad():
            for parameter in self.head.layers[0].parameters():
                parameter.mul_(((len(genes) + 1) / (config.n_genes + 1)) ** 0.5)
        # Vocabulary index -> place among ``genes``; [CLS] and [PAD] come after them
        places = torch.full((config.n_genes + 2,), len(genes) + 1)
        places[torch.tensor(genes)] = torch.arange(len(genes))
        places[config.n_genes] = len(genes)
        self.register_buffer("places", places, persistent=False)

    def forward(self, states: States) -> Tensor:
        """States of B cells -> logits (B, n_classes)."""
        return self.head.layers(self.pooled(states)).float()

    def pooled(self, states: States) -> Tensor:
        """States of B cells -> one number for each gene of the data set and [CLS], (B, n_genes + 1)."""
        x = states.x
        for layer in self.layers:
            x = layer(x, states.mask)
        return self.head.pooling(self.norm(x), self.places[states.gene_ids], states.mask)


@torch.no_grad()
def _wake(model: FineTuned, states: States) -> None:
    """Turn the sign of a gene convolution whose ReLU lets nothing of some cells through: it never learns.

    Tokens share a direction, so that an untrained convolution can be negative for all of them. Its first
    weights are drawn symmetrically about 0: the other sign is a draw as likely. The released code leaves it
    to chance.
    """
    if not (model.eval().pooled(states) > 0).any():
        for parameter in model.head.pooling.parameters():
            parameter.neg_()


def class_weights(targets: NDArray[np.int64], n_classes: int, kind: str) -> NDArray[np.float64]:
    """Weight of each class in the loss.

    ``released`` is (1 - share of the class)^2 as in the authors' code, ``balanced`` n / (classes * n_class),
    ``none`` 1. A class without training cells has weight 1; it takes no part in the loss.
    """
    counts = np.bincount(targets, minlength=n_classes)
    if kind == "released":
        return (1 - counts / counts.sum()) ** 2
    if kind == "balanced":
        return np.where(counts > 0, len(targets) / (n_classes * np.maximum(counts, 1)), 1.0)
    return np.ones(n_classes)


class Finetuner:
    """Fits classifiers on one data set; the output of the frozen layers for a cell is shared by all of them.

    The embedder is pre-trained, on the device to be used, and never changed; ``genes`` are vocabulary indices
    of the data set's genes. More layers to train than the encoder has are a :class:`UserError`.
    """

    def __init__(
        self,
        embedder: Embedder,
        cells: Cells,
        genes: NDArray[np.int64],
        n_classes: int,
        settings: FinetuneSettings,
    ) -> None:
        self.encoder, self.settings, self.n_classes = embedder.encoder, settings, n_classes
        self.genes = genes_read(embedder.tokeniser, genes)
        self.states = freeze(embedder, cells, settings, settings.frozen_top)
        self.n_frozen, self.token_budget = self.states.n_frozen, self.states.store.token_budget
        self.precision = resolve_precision(settings.precision, self.states.device)

    def fit(self, rows: NDArray[np.int64], targets: NDArray[np.int64], epochs: int, seed: int) -> Predict:
        """Train for a number of epochs on the cells at ``rows`` (n,), of the classes ``targets`` (n,).

        The seed is that of the head's first weights, of dropout and of the order of the cells. Returns a
        function from places of cells to the probabilities of their classes (n, n_classes); a loss that is no
        finite number raises :class:`NotFiniteError`.
        """
        with seeded(seed, self.states.device):
            model = self._model(rows)
            for _ in self.epochs(model, (rows, targets), epochs, np.random.default_rng(seed)):
                pass
        return partial(self.probabilities, model)

    def choose(
        self,
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        selection_rows: NDArray[np.int64],
        selection_targets: NDArray[np.int64],
        score: Score,
        seed: int,
        after: Callable[[int, Predict, float], None] = lambda epochs, predict, seconds: None,
    ) -> ChosenEpoch[NDArray[np.int64], NDArray[np.float64]]:
        """Train until ``settings.patience`` ends; the best epoch is that with the best score on other cells.

        The cells to choose on are ``selection_rows`` (m,), ``score(true, predicted)`` is higher for better.
        After each epoch ``after(epochs, predict, seconds)`` is called with what :meth:`fit`, whose other
        parameters and errors these are, would return for as many, and the time since the start.
        """
        best, start = BestEpoch(), time.perf_counter()
        with seeded(seed, self.states.device):
            model = self._model(rows)
            order = np.random.default_rng(seed)
            for epoch, loss in enumerate(self.epochs(model, (rows, targets), self.settings.epochs, order)):
                logits = self.logits(model, selection_rows)
                value = score(selection_targets, logits.argmax(1))
                on_selection = finite(
                    float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(selection_targets))),
                    "the loss on the selection part",
                    epoch,
                )
                best.offer((value, -on_selection), epoch, model)
                log.info(
                    "epoch %d: loss %.4f, selection score %.4f (best: epoch %d)",
                    *(epoch + 1, loss, value, best.epoch + 1),
                )
                after(epoch + 1, partial(self.probabilities, model), time.perf_counter() - start)
                if epoch - best.epoch >= self.settings.patience:
                    break
        return ChosenEpoch(best, model, self.probabilities)

    def _model(self, rows: NDArray[np.int64]) -> nn.Module:
        """An untrained model that can learn from the cells at ``rows``."""
        model = FineTuned(self.encoder, self.n_frozen, self.genes, self.n_classes, self.settings)
        model = model.to(self.states.device)
        _wake(model, self.states.take(rows[:16]))
        return model

    def epochs(
        self,
        model: nn.Module,
        train: tuple[NDArray[np.int64], NDArray[np.int64]],
        n: int,
        order: np.random.Generator,
    ) -> Iterator[float]:
        """Train for ``n`` epochs, giving the mean loss of each when it is over."""
        chosen = self.settings
        optimiser = adam(model.parameters(), chosen)
        weights = torch.as_tensor(class_weights(train[1], self.n_classes, chosen.class_weights)).float()
        weights = weights.to(self.states.device)
        for epoch in range(n):
            start = time.perf_counter()
            if chosen.schedule == "cosine_restarts":
                for group in optimiser.param_groups:
                    group["lr"] = cosine_restarts(epoch, chosen.learning_rate)
            loss = finite(self.epoch(model, optimiser, train, weights, order), "the loss", epoch)
            log.info("epoch %d: %.0f cells/s", epoch + 1, len(train[0]) / (time.perf_counter() - start))
            yield loss

    def epoch(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        train: tuple[NDArray[np.int64], NDArray[np.int64]],
        weights: Tensor,
        order: np.random.Generator,
    ) -> float:
        """Go once over the training cells; return the mean loss of its steps.

        A step is batch_size x accumulation random cells. It is cut by length, not at random: the gradient is
        that of the whole step, with less padding.
        """
        rows, targets = train
        model.train()
        losses = []
        shuffled, size = order.permutation(len(rows)), self.settings.batch_size * self.settings.accumulation
        steps = [shuffled[start : start + size] for start in range(0, len(rows), size)]
        for step, following in zip(steps, [*steps[1:], steps[0][:0]], strict=True):
            self.states.expect(rows[following])
            losses.append(self.backward(model, rows[step], targets[step], weights))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return float(np.mean(losses))

    def backward(
        self, model: nn.Module, rows: NDArray[np.int64], targets: NDArray[np.int64], weights: Tensor
    ) -> float:
        """Add the gradient of the weighted mean cross entropy of these cells; return that loss.

        However the cells are cut into passes, the mean is over all of them: the token budget changes nothing.
        """
        wanted = torch.as_tensor(targets, device=weights.device)
        total = weights[wanted].sum()
        loss = 0.0
        for chunk in self.states.chunks(rows, self.token_budget):
            with self._autocast():
                logits = model(self.states.take(rows[chunk]))
            part = F.cross_entropy(logits, wanted[chunk], weights, reduction="sum") / total
            part.backward()
            loss += part.item()
        return loss

    def probabilities(self, model: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities of the classes of cells, (n, n_classes), in their order."""
        return torch.softmax(torch.from_numpy(self.logits(model, rows)).double(), dim=1).numpy()

    @torch.no_grad()
    def logits(self, model: nn.Module, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of cells, (n, n_classes), in their order."""
        model.eval()
        out = np.empty((len(rows), self.n_classes), dtype=np.float32)
        self.states.expect(rows)
        for chunk in self.states.chunks(rows, self.token_budget):
            with self._autocast():
                out[chunk] = model(self.states.take(rows[chunk])).cpu().numpy()
        return out

    def _autocast(self) -> torch.autocast:
        enabled = self.precision != torch.float32
        return torch.autocast(self.states.device.type, self.precision if enabled else None, enabled=enabled)
