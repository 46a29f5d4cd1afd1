"""Momentum contrast (He et al. 2020): keys from a slowly updated encoder, negatives from a queue.

The queue's keys carry no gradient, so a chunk's gradient needs nothing of the other chunks: the loss adds up
over chunks and the two passes of divide-and-conquer are not needed. The price is that positives and negatives
come from other parameters than the queries (paper, section 1).
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from celllm.training.contrastive import at_least_float32


class MomentumContrast(nn.Module):
    """The encoder of the keys, which starts as a copy of ``model``, and the queue of the last keys.

    A key has ``size`` numbers. The first ``queue_length`` negatives are random directions, as in the authors'
    code. An update keeps the share ``momentum`` of the old parameters. ``coming`` holds the keys (T, d) of
    the batch of this step.
    """

    queue: Tensor
    position: Tensor

    def __init__(
        self,
        model: nn.Module,
        size: int,
        *,
        queue_length: int,
        momentum: float = 0.999,
        temperature: float = 0.05,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.momentum, self.temperature = momentum, temperature
        self.register_buffer(
            "queue", functional.normalize(torch.randn(queue_length, size, generator=generator))
        )
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.coming: Tensor | None = None

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Take over the random features of ``model``, before a step."""
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """After an update: move the keys' parameters towards ``model``, and put ``coming`` into the queue."""
        for own, other in zip(self.model.parameters(), model.parameters(), strict=True):
            own.lerp_(other, 1 - self.momentum)
        if self.coming is not None:
            self.enqueue(self.coming)
            self.coming = None

    def loss(self, queries: Tensor, keys: Tensor) -> Tensor:
        """InfoNCE of queries (t, d) against their own key and the queue, *summed* over the queries."""
        queries, keys = (functional.normalize(at_least_float32(x)) for x in (queries, keys))
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ self.queue.T], dim=1) / self.temperature
        targets = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return functional.cross_entropy(logits, targets, reduction="sum")

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put the keys of a batch (T, d) in the places of the oldest ones; of too many, the last are kept."""
        length = len(self.queue)
        keys = functional.normalize(at_least_float32(keys))[-length:]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % length
        self.queue[places] = keys
        self.position.copy_((self.position + len(keys)) % length)
