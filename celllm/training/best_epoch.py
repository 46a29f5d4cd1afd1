"""The best epoch of a training run, kept until its end."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn


@dataclass
class BestEpoch:
    """The best epoch so far; among equal scores (frequent in small parts) the one with the lower loss.

    Attributes
    ----------
    key : (float, float)
        Score on the selection part, and minus the loss there.
    epoch : int
        Its number from 0; -1 before there is one.
    """

    key: tuple[float, float] = (-np.inf, -np.inf)
    epoch: int = -1
    state: dict[str, Tensor] | None = None

    def offer(self, key: tuple[float, float], epoch: int, model: nn.Module) -> None:
        """Keep the parameters of ``model`` if this epoch is better than all before."""
        if key > self.key:
            state = {name: value.clone() for name, value in model.state_dict().items()}
            self.key, self.epoch, self.state = key, epoch, state

    def restore(self, model: nn.Module) -> None:
        """Put the parameters of the best epoch back.

        Raises
        ------
        FloatingPointError
            When no epoch had a score.
        """
        if self.state is None:
            raise FloatingPointError("the selection score or the loss was not a number in every epoch")
        model.load_state_dict(self.state)
