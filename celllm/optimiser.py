"""The optimiser of every training."""

import inspect
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn


class Rates(Protocol):
    """What the settings of a training say about its optimiser."""

    @property
    def learning_rate(self) -> float: ...  # noqa: D102

    @property
    def weight_decay(self) -> float: ...  # noqa: D102


class Adam(torch.optim.Adam):
    """PyTorch's Adam without the wrappers that import the compiler, two seconds, to keep it out of them."""


for _name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    setattr(Adam, _name, inspect.unwrap(getattr(torch.optim.Adam, _name)))
# The wrapper of `step` is also what switches gradients off.
Adam.step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))  # type: ignore[method-assign]


def adam(
    parameters: Iterable[nn.Parameter],
    settings: Rates,
    betas: tuple[float, float] = (0.9, 0.999),
    fused: bool = True,
) -> Adam:
    """Adam (Kingma & Ba 2015) over those parameters that are trained.

    ``fused`` makes one pass over the parameters: for a small encoder the others would be half of a step.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    fused = fused and not any(parameter.is_meta for parameter in trained)
    return Adam(
        trained, settings.learning_rate, betas, weight_decay=settings.weight_decay, fused=fused or None
    )
