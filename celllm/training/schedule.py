"""The learning rate as a function of the step."""

import math


def cosine(step: int, n_steps: int, peak: float, warmup_steps: int = 0) -> float:
    """Linear warm-up to ``peak``, then cosine annealing to zero (Loshchilov & Hutter 2017; paper, Table F.1).

    The rate of update ``step``, from 0, of ``n_steps``; it would reach zero after the last. The first
    ``warmup_steps`` have the rates ``peak * 1 / (warmup_steps + 1)`` and so on.
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


RESTART_EPOCHS = 100
"""Epochs of scBERT's own training, over which its restarts are laid out."""


def cosine_restarts(epoch: int, peak: float) -> float:
    """Linear warm-up and cosine annealing, time and again, as in scBERT's released code (utils.py).

    The rate changes from epoch to epoch. A cycle of 15 epochs starts with 5 of warm-up; what follows them is
    twice as long in each further cycle, whose peak is 0.9 times that before. The lowest rate is a hundredth
    of the first peak.
    """
    length, lowest, highest = 15, peak / 100, peak
    while epoch >= length:
        epoch, length, highest = epoch - length, 2 * (length - 5) + 5, 0.9 * highest
    if epoch < 5:
        return lowest + (highest - lowest) * epoch / 5
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * (epoch - 5) / (length - 5)))
