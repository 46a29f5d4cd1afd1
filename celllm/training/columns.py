"""What a pre-training reports: its objectives and the columns of its table. Read without PyTorch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from celllm.model.settings import MEASURES


@dataclass(frozen=True)
class Objective:
    """A loss of pre-training, known by its name to the model that computes it and to all that report it."""

    name: str  # a column of the table
    title: str  # what figures call it
    # What it is a mean over. The model gives sums over tokens and cells; the contrast is one loss of a batch.
    per: Literal["masked token", "cell", "batch"]
    ignorant: Callable[[int], float]  # cells in a batch -> loss of a model that knows nothing
    logarithmic: bool = False  # whether it is drawn on a logarithmic axis

    @property
    def weight(self) -> str:
        """The setting that holds its weight."""
        return f"{self.name}_weight"


OBJECTIVES = (
    Objective("mlm", "Masked expressions", "masked token", lambda n: math.log(8)),  # expression tokens
    Objective("tumour", "Tumour or normal", "cell", lambda n: math.log(2)),
    Objective("contrast", "Contrast", "batch", math.log, logarithmic=True),
)
LOSSES = tuple(objective.name for objective in OBJECTIVES)

# A row per step (celllm pretrain).
STEPS = (
    *("step", "epoch", "n_cells", "n_tokens", "n_chunks", "learning_rate", "loss", *LOSSES, "gradient_norm"),
    *("seconds", "waiting_seconds", "cells_per_second", "tokens_per_second", "peak_mib"),
    *("flops_per_second", "utilisation"),
    *MEASURES,
)
