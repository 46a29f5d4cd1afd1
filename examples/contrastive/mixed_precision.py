"""Mixed precision with a gradient scaler, as float16 on a GPU needs it.

Autocast goes around the encoder, where both passes over a chunk run; the loss compares in float32. The scaler
multiplies every loss before it is back-propagated (``scale``), and unscales before the update.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from celllm.training.contrastive import divide_and_conquer, info_nce

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.float16 if DEVICE == "cuda" else torch.bfloat16


def encoder() -> nn.Sequential:
    """From pixels to 32 numbers; dropout makes the two views."""
    return nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))


def add_gradients(
    model: nn.Module, images: Tensor, chunk_size: int, scaler: torch.amp.GradScaler
) -> dict[str, Tensor]:
    """Add the gradient of the loss, times the scale, to ``.grad``."""

    def encode(chunk: Tensor) -> Tensor:
        with torch.autocast(DEVICE, DTYPE):
            return model(chunk)

    return divide_and_conquer(
        encode, images.split(chunk_size), lambda h, h_plus: info_nce(h, h_plus, 0.2), scale=scaler.scale
    )


def main(n_steps: int = 20) -> None:
    """Train on 1,792 digits as one batch."""
    torch.manual_seed(0)
    images = (torch.tensor(load_digits().data[:1792]).float() / 16).to(DEVICE)
    model = encoder().to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(DEVICE)
    for step in range(n_steps):
        optimiser.zero_grad()
        losses = add_gradients(model, images, 64, scaler)
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimiser)
        scaler.update()
        if step % 5 == 0 or step == n_steps - 1:
            print(f"step {step}: loss {losses['contrast']:.3f}, scale {scaler.get_scale():g}")


if __name__ == "__main__":
    main()
