"""Two towers and a learnt temperature, as in CLIP: digits and their upper halves find each other.

Each tower is an encoder of its own, the batch is a dictionary, and ``logit_scale`` stands in the loss alone:
its gradient comes from the one evaluation of the loss over the whole batch. The tower of the upper halves
returns a dictionary; ``TRAIN_UPPER = False`` freezes it ("locked" tuning).
"""

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from celllm.training.contrastive import divide_and_conquer, info_nce, split

TRAIN_UPPER = True


def tower(n_in: int) -> nn.Sequential:
    """An encoder from pixels to 32 numbers."""
    return nn.Sequential(nn.Linear(n_in, 128), nn.GELU(), nn.Dropout(0.1), nn.Linear(128, 32))


class Towers(nn.Module):
    """Both towers, and the logarithm of the inverse temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.upper = tower(64), tower(32).requires_grad_(TRAIN_UPPER)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_whole(self, batch: dict[str, Tensor]) -> Tensor:
        """Embeddings of whole digits."""
        return self.whole(batch["pixels"])

    def encode_upper(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings of upper halves, in a dictionary."""
        return {"embedding": self.upper(batch["pixels"][:, :32])}

    def loss(self, whole: Tensor, upper: Tensor) -> Tensor:
        """CLIP's loss: each whole finds its half, each half its whole."""
        temperature = (-self.logit_scale).exp()
        return (info_nce(whole, upper, temperature) + info_nce(upper, whole, temperature)) / 2


def add_gradients(model: Towers, batch: dict[str, Tensor], chunk_size: int) -> dict[str, Tensor]:
    """Add the gradient of the loss over the whole batch to ``.grad``."""
    chunks = split(batch, chunk_size)
    return divide_and_conquer([model.encode_whole, model.encode_upper], chunks, model.loss)


def main(n_steps: int = 30) -> None:
    """Train on 1,792 digits as one batch."""
    torch.manual_seed(0)
    batch = {"pixels": torch.tensor(load_digits().data[:1792]).float() / 16}
    model = Towers()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for step in range(n_steps):
        optimiser.zero_grad()
        losses = add_gradients(model, batch, chunk_size=64)
        optimiser.step()
        if step % 10 == 0 or step == n_steps - 1:
            temperature = model.logit_scale.neg().exp().item()
            print(f"step {step}: loss {losses['contrast']:.3f}, temperature {temperature:.4f}")


if __name__ == "__main__":
    main()
