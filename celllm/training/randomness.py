"""Random numbers of a training run: every stream is a function of the seed and the place where it is used.

No generator runs on from step to step, so a run that resumes at a step draws what it would have drawn, and
the number of the step is all the state that a checkpoint has to keep for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What random numbers are for. The numbers are part of every result: never change one."""

    INITIAL = 0
    DROPOUT = 1
    MASKS = 2
    FEATURES = 3
    QUEUE = 4
    HELD_OUT = 5


def seed_of(seed: int, stream: Stream, *place: int) -> int:
    """Seed of a stream at a place (a step, a rank), a 63-bit number that differs for all of them."""
    return int(np.random.SeedSequence([seed, stream, *place]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of a seed on the CPU and on ``device``; behind the block theirs go on as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
