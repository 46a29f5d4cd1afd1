"""Regression on pairs of a cell line and a drug: batches, epochs, and the choice of the best one."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from celllm.optimiser import adam
from celllm.training.best_epoch import BestEpoch, ChosenEpoch, finite
from celllm.training.settings import RegressionSettings

log = logging.getLogger(__name__)

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
Indices = tuple[Numbers, Numbers]  # lines and drugs of pairs, by number
# Takes true and predicted values of the selection part; higher is better.
Score = Callable[[Floats, Floats], float]


@dataclass(frozen=True)
class KnownPairs:
    """Pairs with their responses: three arrays (n,), lines and drugs by number."""

    lines: Numbers
    drugs: Numbers
    responses: Floats

    def __len__(self) -> int:
        return len(self.lines)


class PairModel(nn.Module, ABC):
    """A model that predicts a number for a line and a drug, both given by number."""

    @abstractmethod
    def forward(self, lines: Numbers, drugs: Numbers) -> Tensor:
        """Numbers of n lines and n drugs -> responses (n,)."""

    def backward(self, lines: Numbers, drugs: Numbers, responses: Floats, size: float) -> float:
        """Add the gradient of the sum of these pairs' squared errors over ``size``; return that sum."""
        predicted = self(lines, drugs)
        wanted = torch.as_tensor(responses, dtype=predicted.dtype, device=predicted.device)
        total = F.mse_loss(predicted, wanted, reduction="sum")
        (total / size).backward()
        return total.item()

    @torch.no_grad()
    def predict(self, lines: Numbers, drugs: Numbers) -> Floats:
        """Predict these pairs, in their order, without dropout."""
        self.eval()
        return self(lines, drugs).cpu().numpy().astype(np.float64)

    @abstractmethod
    def start_at(self, mean: float) -> None:
        """Let the untrained model predict about this."""


Model = TypeVar("Model", bound=PairModel)


def epochs(
    model: PairModel, pairs: KnownPairs, settings: RegressionSettings, n: int, order: np.random.Generator
) -> Iterator[float]:
    """Train with Adam on the squared error for ``n`` epochs, giving the mean error of each when it is over.

    The last bias starts at the mean response: the first epochs would learn nothing else.

    Raises :class:`NotFiniteError` when that error is not a finite number.
    """
    model.start_at(float(pairs.responses.mean()))
    optimiser = adam(model.parameters(), settings)
    for epoch in range(n):
        start = time.perf_counter()
        loss, n_seen = run_epoch(model, optimiser, pairs, settings, order)
        log.info("epoch %d: %.0f pairs/s", epoch + 1, n_seen / (time.perf_counter() - start))
        yield finite(loss, "the loss", epoch)


def fit(
    model: Model, pairs: KnownPairs, settings: RegressionSettings, n: int, order: np.random.Generator
) -> Model:
    """Train a model for ``n`` epochs and return it."""
    for _ in epochs(model, pairs, settings, n, order):
        pass
    return model


def choose(
    model: PairModel,
    pairs: KnownPairs,
    selection: KnownPairs,
    settings: RegressionSettings,
    score: Score,
    order: np.random.Generator,
) -> ChosenEpoch[Indices, Floats]:
    """Train until patience ends; the best epoch is that with the best score on the selection part."""
    best = BestEpoch()
    for epoch, loss in enumerate(epochs(model, pairs, settings, settings.epochs, order)):
        predicted = model.predict(selection.lines, selection.drugs)
        value = score(selection.responses, predicted)
        error = finite(
            float(np.mean((predicted - selection.responses) ** 2)), "the error on the selection part", epoch
        )
        best.offer((value, -error), epoch, model)
        log.info(
            "epoch %d: loss %.4f, selection score %.4f (best: epoch %d)",
            *(epoch + 1, loss, value, best.epoch + 1),
        )
        if epoch - best.epoch >= settings.patience:
            break
    return ChosenEpoch(best, model, lambda model, indices: model.predict(*indices))


def run_epoch(
    model: PairModel,
    optimiser: torch.optim.Optimizer,
    pairs: KnownPairs,
    settings: RegressionSettings,
    order: np.random.Generator,
) -> tuple[float, int]:
    """Make the steps of an epoch; return the mean squared error met on the way, and the number of pairs.

    A pair weighs the same in every batch, one over the mean size of a batch: lines differ in their pairs, and
    so do batches of few lines in size. Then the mean gradient over the batches of an epoch is that over all
    pairs, whether they were drawn one by one (Table F.1) or by ``lines_per_batch``.
    """
    model.train()
    total, n_seen, n_wanted = 0.0, 0, settings.pairs_per_epoch or len(pairs)
    groups = pairs.drugs if settings.drugs_per_batch else pairs.lines
    per_batch = settings.drugs_per_batch or settings.lines_per_batch
    cut = batches(groups, settings.batch_size, per_batch, order)
    size = len(pairs) / len(cut)
    for rows in cut:
        n_seen += len(rows)
        total += model.backward(pairs.lines[rows], pairs.drugs[rows], pairs.responses[rows], size)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if n_seen >= n_wanted:
            break
    return total / n_seen, n_seen


def batches(groups: Numbers, size: int, per_batch: int, order: np.random.Generator) -> list[Numbers]:
    """Cut pairs into random batches of at most ``size``, each pair in one of them.

    ``groups`` holds the line (or the drug) of each pair. With ``per_batch`` each line's pairs are shuffled
    and cut into blocks of ``size / per_batch``, and a batch is so many random blocks: a line is then encoded
    that many times less often, at the price of batches that hold fewer lines. A pair that would be left
    alone, which batch norm could not take, joins another batch.
    """
    if per_batch == 0:
        cut = _cut(order.permutation(len(groups)), size)
    else:
        blocks: list[Numbers] = []
        for group in np.unique(groups):
            blocks += _cut(order.permutation(np.flatnonzero(groups == group)), max(1, size // per_batch))
        blocks = [blocks[i] for i in order.permutation(len(blocks))]
        starts = range(0, len(blocks), per_batch)
        cut = [np.concatenate(blocks[start : start + per_batch]) for start in starts]
    single = [rows for rows in cut if len(rows) == 1]
    others = [rows for rows in cut if len(rows) > 1]
    if len(single) == 1 and others:
        place = order.integers(len(others))  # an epoch of some pairs takes the first batches
        others[place] = np.concatenate([others[place], single[0]])
        return others
    return others + ([np.concatenate(single)] if single else [])


def _cut(rows: Numbers, size: int) -> list[Numbers]:
    """Pieces of nearly equal length, none longer than ``size``."""
    return np.array_split(rows, -(-len(rows) // size))
