"""Gradient accumulation on top of divide-and-conquer, and a further loss on the same forward.

Plain accumulation over small batches compares every example with those of its small batch only. Here one
contrast sees 896 examples in chunks of 64, and two such contrasts make one optimiser step: gradients add up
over calls, so each loss is divided by the number of calls. A reconstruction rides on the second pass at no
further forward; it is a sum over chunks and views, divided by numbers of the whole batch.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from celllm.training.contrastive import divide_and_conquer, info_nce


class Autoencoder(nn.Module):
    """Encoder with dropout, and a decoder of its embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        self.decoder = nn.Linear(32, 64)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (t, 32), and the images as the decoder sees them."""
        h = self.encoder(images)
        return h, self.decoder(h)


def add_gradients(model: Autoencoder, batches: list[Tensor], chunk_size: int) -> dict[str, Tensor]:
    """Add the gradient of the mean loss of several batches to ``.grad``; return the mean losses."""
    n = len(batches)
    total: dict[str, Tensor] = {}
    for batch in batches:
        share = 1 / (n * 2 * batch.numel())  # a mean over both views

        def rebuild(images: Tensor, rebuilt: Tensor, share: float = share) -> dict[str, Tensor]:
            return {"rebuild": functional.mse_loss(rebuilt, images, reduction="sum") * share}

        losses = divide_and_conquer(
            model, batch.split(chunk_size), lambda h, h_plus: info_nce(h, h_plus, 0.2) / n, extra=rebuild
        )
        total = {name: total.get(name, 0) + value for name, value in losses.items()}
    return total


def main(n_steps: int = 20) -> None:
    """Train on 1,792 digits, two contrasts of 896 a step."""
    torch.manual_seed(0)
    images = torch.tensor(load_digits().data[:1792]).float() / 16
    model = Autoencoder()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(n_steps):
        optimiser.zero_grad()
        losses = add_gradients(model, list(images.split(896)), chunk_size=64)
        optimiser.step()
        if step % 5 == 0 or step == n_steps - 1:
            print(f"step {step}: loss {losses['contrast']:.3f}, reconstruction {losses['rebuild']:.3f}")


if __name__ == "__main__":
    main()
