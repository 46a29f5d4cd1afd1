"""Dropout whose random numbers cost less on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from celllm.model.compilation import Opaque


class Dropout(nn.Dropout):
    """Standard dropout; on a CPU one 64-bit random number decides on four elements.

    PyTorch's own draws one double per element there, which takes a quarter of a training step of the encoder.
    The probability is rounded to 1/65536 and the kept elements are scaled by what was rounded to.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of ``x`` at random when training; any shape."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        return _thrifty(x, self.p)


@Opaque
def _thrifty(x: Tensor, p: float) -> Tensor:
    dropped = round(p * 2**16)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.int16)[: x.numel()].view(x.shape)
    torch.ge(keep, dropped - 2**15, out=keep)  # in place: 1 to keep, 0 to drop, in 16 bits
    return x * keep.to(x.dtype).mul_(1 / (1 - dropped / 2**16))
