import pytest
import torch

from celllm.model.dropout import Dropout


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_kept_elements_are_scaled_and_the_share_is_right(kind: torch.dtype, p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 501, dtype=kind, requires_grad=True)
    out = Dropout(p)(x)
    scale = torch.tensor(1 / (1 - round(p * 65536) / 65536), dtype=kind)
    assert out.dtype == kind
    assert set(out.unique().tolist()) == {0.0, scale.item()}
    n = x.numel()
    assert abs((out == 0).sum().item() - p * n) < 4 * (n * p * (1 - p)) ** 0.5
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(400_000)) == 0).float() - 0.5
    for lag in range(1, 9):
        assert abs((dropped[lag:] * dropped[:-lag]).mean().item()) < 4 * 0.25 / 400_000**0.5


def test_the_random_state_decides() -> None:
    x, dropout = torch.ones(7, 3), Dropout(0.3)
    state = torch.get_rng_state()
    first, second = dropout(x), dropout(x)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


def test_nothing_happens_outside_training() -> None:
    x = torch.randn(5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert Dropout(0.5)(torch.empty(0, 3)).shape == (0, 3)
