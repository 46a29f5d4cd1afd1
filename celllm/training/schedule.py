"""The learning rate as a function of the step."""

import math


def cosine(step: int, n_steps: int, peak: float, warmup_steps: int = 0) -> float:
    """Linear warm-up to ``peak``, then cosine annealing to zero (Loshchilov & Hutter 2017; paper, Table F.1).

    Parameters
    ----------
    step
        Number of updates done, from 0.
    n_steps
        Updates of the whole run; the rate would reach zero after the last.
    warmup_steps
        The first updates, with rates ``peak * 1 / (warmup_steps + 1)`` and so on.
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, n_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
