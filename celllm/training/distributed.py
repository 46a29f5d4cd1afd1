"""Several processes train one model: ``torchrun --nproc-per-node N -m celllm pretrain ...``.

Each process embeds its share of the logical batch. The contrastive loss sees the embeddings of all of them,
each process back-propagates the slice of its own, and gradients are summed once per step. So the batch of the
contrast is the logical batch, however many processes there are.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from celllm.model.embedder import find_device


@dataclass(frozen=True)
class Processes:
    """The place of this process, number ``rank`` of ``size``, among all that train the model."""

    rank: int
    size: int
    device: torch.device  # where it computes

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and log."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """``model`` on the device, with gradients averaged over the processes when there are several."""
        model = model.to(self.device)
        if self.size == 1:
            return model
        wrapped = DistributedDataParallel(model)
        # Buffers stay equal; sending them at every forward would be a forward that changes buffers.
        wrapped.broadcast_buffers = False
        return wrapped

    def no_sync(self, wrapped: nn.Module) -> Callable[[], AbstractContextManager[Any]]:
        """Context in which a backward pass leaves gradients unsummed."""
        return wrapped.no_sync if isinstance(wrapped, DistributedDataParallel) else nullcontext

    def gather(self, h: Tensor) -> Tensor:
        """Embeddings (n, d) of all processes, one after the other; only those of this one carry a gradient.

        The number of rows may differ. Since the other slices are constants, each process gets exactly its
        part of the gradient, and the sum over the processes is the whole.
        """
        if self.size == 1:
            return h
        n_rows = self._all(torch.tensor([len(h)], device=h.device))
        padded = h.new_zeros(int(max(n_rows)), h.shape[1])
        padded[: len(h)] = h.detach()
        parts = [part[: int(n)] for part, n in zip(self._all(padded), n_rows, strict=True)]
        parts[self.rank] = h
        return torch.cat(parts)

    def _all(self, tensor: Tensor) -> list[Tensor]:
        received = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(received, tensor)
        return received

    def sum(self, numbers: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Sums of these numbers over the processes; every process calls it with the same names."""
        values = torch.stack([torch.as_tensor(x, device=self.device).double() for x in numbers.values()])
        if self.size > 1:
            distributed.all_reduce(values)
        return dict(zip(numbers, values.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process; every process calls it."""
        return bool(self.sum({"flag": float(flag)})["flag"]) if self.size > 1 else flag

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started, on a device by name; alone without torchrun."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = find_device(device)
    if size == 1:
        yield Processes(0, 1, place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Processes(rank, size, place)
    finally:
        distributed.destroy_process_group()
