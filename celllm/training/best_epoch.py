"""The best epoch of a training run, and the model as it was then."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor, nn

Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


class NotFiniteError(FloatingPointError):
    """A number of training is not finite; what was trained is worth nothing."""


def finite(value: float, what: str, epoch: int) -> float:
    """Return ``value``, or raise :class:`NotFiniteError` with the number of the epoch (from 0)."""
    if not math.isfinite(value):
        raise NotFiniteError(f"{what} is {value} in epoch {epoch + 1}; lower the learning rate")
    return value


@dataclass
class BestEpoch:
    """The best epoch so far; among equal scores (frequent in small parts) the one with the lower loss.

    ``key`` is the score on the selection part, and minus the loss there; ``epoch`` counts from 0, and is -1
    before there is one; ``state`` are the parameters of the model after it.
    """

    key: tuple[float, float] = (-np.inf, -np.inf)
    epoch: int = -1
    state: dict[str, Tensor] | None = None

    def offer(self, key: tuple[float, float], epoch: int, model: nn.Module) -> None:
        """Keep the parameters of ``model`` if this epoch is better than all before; no score is the worst."""
        key = (-math.inf if math.isnan(key[0]) else key[0], key[1])
        if self.state is None or key > self.key:
            self.key, self.epoch, self.state = key, epoch, state_of(model)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


@dataclass
class ChosenEpoch(Generic[Inputs, Outputs]):
    """What a search for the best epoch found: its number, and the model as it was then and at the end."""

    best: BestEpoch
    model: nn.Module
    run: Callable[[Any, Inputs], Outputs]

    def __post_init__(self) -> None:
        self._last = state_of(self.model)

    @property
    def epochs(self) -> int:
        """Epochs until the best one was over."""
        return self.best.epoch + 1

    def predict(self, inputs: Inputs) -> Outputs:
        """What the model of the best epoch makes of some inputs."""
        assert self.best.state is not None
        self.model.load_state_dict(self.best.state)
        return self.run(self.model, inputs)

    def predict_last(self, inputs: Inputs) -> Outputs:
        """What the model of the last epoch makes of them."""
        self.model.load_state_dict(self._last)
        return self.run(self.model, inputs)
