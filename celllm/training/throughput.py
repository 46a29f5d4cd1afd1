"""How much of the machine a training uses: counted operations, and the rate of a large matrix product."""

import time

import torch
from torch import Tensor

from celllm.model.encoder import forward_flops
from celllm.model.settings import EncoderConfig

BACKWARD = 2
"""A backward pass in forward passes: every product has two gradients, each as large as itself."""

_SIZES = (512, 1024, 2048, 4096, 8192)
_REPEATS = 2
_MOST_SECONDS = 0.4


def pass_flops(config: EncoderConfig, mask: Tensor, backward: bool) -> int:
    """Floating-point operations of a pass of the encoder over some cells; see :func:`forward_flops`.

    ``mask`` (B, L) is True at real tokens: what is computed at padded places is not counted. ``backward``:
    whether a backward pass follows.
    """
    forward = sum(forward_flops(config, length) for length in mask.sum(1).tolist())
    return forward * (1 + BACKWARD) if backward else forward


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product in a number type, with the threads in use now.

    Sizes grow while the next is sure to be done within half a second; the best rate counts. No random number
    of the run is drawn.
    """
    generator = torch.Generator(device).manual_seed(0)
    best = 0.0
    for size in _SIZES:
        a = torch.randn(size, size, generator=generator, device=device).to(dtype)
        seconds = min(_seconds_of_product(a) for _ in range(_REPEATS))
        best = max(best, 2 * size**3 / seconds)
        if _REPEATS * 8 * seconds > _MOST_SECONDS:  # twice the size: eight times the work
            break
    return best


def _seconds_of_product(a: Tensor) -> float:
    _finish(a.device)
    start = time.perf_counter()
    torch.mm(a, a)
    _finish(a.device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
