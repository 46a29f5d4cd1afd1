"""Several processes, one contrast: the batch of the loss is the batch of all of them.

    torchrun --standalone --nproc-per-node 2 examples/contrastive/several_processes.py

``GatherRows`` has a gradient: every process evaluates the whole loss, and its embeddings get the sum of what
the losses of all processes say about them. DistributedDataParallel then takes the mean over the processes,
which is the gradient of the loss. Parameters of the loss (``log_temperature``) stay outside the wrapped
module: each process finds their whole gradient by itself.
"""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from celllm.training.contrastive import divide_and_conquer, info_nce


class GatherRows(torch.autograd.Function):
    """The rows (n, d) of all processes, one after the other; n is the same everywhere."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        """(n, d) -> (n_processes * n, d)."""
        parts = [torch.empty_like(h) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, h.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum over the processes of the gradient with respect to the rows of this one."""
        total = gradients[0].contiguous()
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


def encoder() -> nn.Sequential:
    """From pixels to 32 numbers; dropout makes the two views."""
    return nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))


def add_gradients(
    model: DistributedDataParallel, log_temperature: Tensor, images: Tensor, chunk_size: int
) -> dict[str, Tensor]:
    """Add the gradient of the loss over the images of all processes to ``.grad``.

    ``images`` are those of this process, (n, 64), with the same n in every process.
    """

    def loss(h: Tensor, h_plus: Tensor) -> Tensor:
        return info_nce(GatherRows.apply(h), GatherRows.apply(h_plus), log_temperature.exp())

    return divide_and_conquer(model, images.split(chunk_size), loss, no_sync=model.no_sync)


def main(n_steps: int = 20) -> None:
    """Train on 1,792 digits as one batch, each process with its share."""
    rank, n_processes = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    images = torch.tensor(load_digits().data[:1792]).float() / 16
    model = DistributedDataParallel(encoder())
    log_temperature = nn.Parameter(torch.tensor(0.2).log())
    optimiser = torch.optim.Adam([*model.parameters(), log_temperature], lr=1e-3)
    torch.manual_seed(1 + rank)  # other dropout masks in every process
    for step in range(n_steps):
        optimiser.zero_grad()
        losses = add_gradients(model, log_temperature, images[rank::n_processes], chunk_size=64)
        optimiser.step()
        if rank == 0 and (step % 5 == 0 or step == n_steps - 1):
            print(
                f"step {step}: loss {losses['contrast']:.3f}, temperature {log_temperature.exp().item():.4f}"
            )


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    main()
    distributed.barrier()  # no process leaves while another still talks to it
    distributed.destroy_process_group()
