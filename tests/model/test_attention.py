import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from celllm.model import favor
from celllm.model.attention import FavorAttention, ReleasedAttention, SoftmaxAttention
from celllm.model.favor import FEATURE_FLOOR, draw_projection, favor_attention
from celllm.probes.peak_memory import Accountant


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def inputs(
    b: int = 3, h: int = 2, n: int = 17, d: int = 8, m: int = 20, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v = (torch.randn(b, h, n, d, dtype=dtype, requires_grad=True) for _ in range(3))
    return q, k, v, draw_projection(m, d).to(dtype)


def attended(q: Tensor, k: Tensor, v: Tensor, projection: Tensor, mask: Tensor | None) -> Tensor:
    qkv = torch.stack([q, k, v], dim=2).permute(0, 3, 2, 1, 4)
    return favor_attention(qkv, projection, mask).transpose(1, 2)


def ragged_mask(b: int, n: int) -> Tensor:
    return torch.arange(n) < torch.randint(1, n + 1, (b, 1))


def kernel_matrix(q: Tensor, k: Tensor, projection: Tensor, mask: Tensor) -> Tensor:
    """Attention weights, the n x n matrix in full, cell by cell over the real keys alone."""
    scale = q.shape[-1] ** -0.25
    weights = torch.zeros(*q.shape[:-1], k.shape[-2], dtype=q.dtype)
    for cell, real in enumerate(mask):
        dash_q, dash_k = (x[cell] * scale @ projection.T for x in (q, k))
        norm_q, norm_k = ((x[cell] * scale).square().sum(-1, keepdim=True) / 2 for x in (q, k))
        dash_k, norm_k = dash_k[:, real], norm_k[:, real]
        phi_q = torch.exp(dash_q - norm_q - dash_q.amax(-1, keepdim=True).detach()) + FEATURE_FLOOR
        phi_k = torch.exp(dash_k - norm_k - dash_k.amax((-1, -2), keepdim=True).detach()) + FEATURE_FLOOR
        kernel = phi_q @ phi_k.transpose(-1, -2)
        weights[cell, :, :, real] = kernel / kernel.sum(-1, keepdim=True)
    return weights


# Blocks of one head, of unequal parts of a cell's five heads, of two cells with one left over, of everything.
@pytest.mark.parametrize("heads_per_block", [0, 2, 10, 100])
@pytest.mark.parametrize("padded", [False, True])
def test_favor_is_the_kernel_attention_with_its_gradients(
    padded: bool, heads_per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(favor.BLOCK, "cpu", heads_per_block * 17 * 20)
    q, k, v, projection = inputs(h=5)
    mask = ragged_mask(3, 17) if padded else torch.ones(3, 17, dtype=torch.bool)
    out = attended(q, k, v, projection, mask if padded else None)
    expected = kernel_matrix(q, k, projection, mask) @ v
    assert torch.allclose(out, expected, rtol=0, atol=1e-12)

    direction = torch.randn_like(out)
    got = torch.autograd.grad(out, (q, k, v), direction)
    wanted = torch.autograd.grad(expected, (q, k, v), direction)
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
    assert got[1][~mask[:, None].expand(3, 5, 17)].abs().sum() == 0
    assert got[2][~mask[:, None].expand(3, 5, 17)].abs().sum() == 0


def step_of_favor(device: str, n_cells: int = 4, length: int = 50) -> tuple[Tensor, Tensor]:
    """Output and gradient of a forward and a backward pass: 6 heads of 16, 40 features (rows of 48)."""
    torch.manual_seed(0)
    qkv = torch.randn(n_cells, length, 3, 6, 16).to(device).requires_grad_()
    mask = ragged_mask(n_cells, length).to(device)
    out = favor_attention(qkv, torch.randn(40, 16).to(device), mask)
    return out.detach(), *torch.autograd.grad(out.sin().sum(), qkv)


@pytest.mark.parametrize("heads_per_block", [1, 4, 6, 13])
def test_any_block_size_gives_the_same_numbers(heads_per_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(favor.BLOCK, "cpu", 2**30)
    whole = step_of_favor("cpu")
    monkeypatch.setitem(favor.BLOCK, "cpu", heads_per_block * 50 * 48)
    for found, wanted in zip(step_of_favor("cpu"), whole, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n_heads_free", [2, 5, 12, 100])
def test_on_an_accelerator_rooms_of_features_fit_the_free_memory(
    n_heads_free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted on the meta device, as `celllm memory` does: what the rooms of both passes take."""
    one_head, n_heads = 50 * 48 * 4, 4 * 6
    free = n_heads_free * favor.BACKWARD_ROOMS * one_head / favor.FREE_SHARE
    monkeypatch.setattr(favor, "free_bytes", lambda device: free)
    rooms: list[Tensor] = []
    n_blocks: list[int] = []
    cut = favor._blocks

    def seen(*arguments: Any) -> Iterator[Any]:
        blocks = list(cut(*arguments))
        rooms.append(blocks[0].rooms)
        n_blocks.append(len(blocks))
        return iter(blocks)

    monkeypatch.setattr(favor, "_blocks", seen)
    with Accountant("meta") as accountant:
        step_of_favor("meta")
    forward, backward = (room.untyped_storage().nbytes() for room in rooms)
    assert backward == favor.BACKWARD_ROOMS * forward <= favor.FREE_SHARE * free
    assert n_blocks == [1, 1] if n_heads_free >= n_heads else n_blocks[0] == n_blocks[1] > 1
    inputs_and_outputs = 15 * 4 * 50 * 6 * 16 * 4  # qkv, its gradient, the output, and rows like them
    assert backward < accountant.peak < backward + 3 * inputs_and_outputs


def test_the_free_memory_is_asked_once_and_holds_for_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([favor.BACKWARD_ROOMS * 50 * 48 * 4 / favor.FREE_SHARE])
    monkeypatch.setattr(favor, "free_bytes", lambda device: next(asked))
    step_of_favor("meta")
    assert next(asked, None) is None


def test_favor_equals_performer_pytorch_on_unpadded_input() -> None:
    from performer_pytorch import SelfAttention

    theirs = SelfAttention(48, heads=3, dim_head=16, nb_features=44, qkv_bias=False)
    ours = FavorAttention(48, 3, 16, 0.0, 44)
    with torch.no_grad():
        ours.to_qkv.weight.copy_(torch.cat([theirs.to_q.weight, theirs.to_k.weight, theirs.to_v.weight]))
        ours.to_out.load_state_dict(theirs.to_out.state_dict())
        ours.projection.copy_(theirs.fast_attention.projection_matrix)
    x = torch.randn(4, 100, 48)
    assert (ours(x) - theirs(x)).abs().max() < 1e-5
    assert (ours(x, torch.ones(4, 100, dtype=torch.bool)) - theirs(x)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["favor", "softmax"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_padding_leaves_a_cell_as_it_is(kind: str, scale: float) -> None:
    attention = FavorAttention(32, 2, 16, 0.0, 44) if kind == "favor" else SoftmaxAttention(32, 2, 16, 0.0)
    x = torch.randn(2, 50, 32)
    padded = torch.cat([x, torch.randn(2, 150, 32) * scale], dim=1)
    mask = (torch.arange(200) < 50).expand(2, 200)
    assert (attention(padded, mask)[:, :50] - attention(x)).abs().max() < 1e-5


def test_the_released_attention_depends_on_padding() -> None:
    released = ReleasedAttention(64, 2, 32, 0.0, 110)
    x = torch.randn(1, 100, 64)
    padded = torch.cat([x, torch.zeros(1, 300, 64)], dim=1)
    mask = (torch.arange(400) < 100).expand(1, 400)
    alone, beside_pads = released(x), released(padded, mask)[:, :100]
    assert (alone - beside_pads).norm() / alone.norm() > 0.2


@pytest.mark.parametrize("values", [1.0, 4.0])
def test_the_released_attention_is_the_formula_with_one_maximum_of_all_keys(values: float) -> None:
    """Written out cell by cell and head by head, with pads: values zeroed, keys left in."""
    released = ReleasedAttention(12, 2, 8, 0.0, 20).double()
    x = values * torch.randn(3, 9, 12, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor([[9], [4], [6]])
    inner = released.inner
    w = inner.fast_attention.projection_matrix * 8**-0.25
    q, k, v = (layer(x).view(3, 9, 2, 8) for layer in (inner.to_q, inner.to_k, inner.to_v))
    largest = max(float((k[b, :, h] @ w.T).max()) for b in range(3) for h in range(2))
    out = torch.empty(3, 9, 16, dtype=torch.float64)
    for b in range(3):
        for h in range(2):
            keys = torch.exp(
                k[b, :, h] @ w.T - k[b, :, h].square().sum(1, keepdim=True) / (2 * 8**0.5) - largest
            )
            for i in range(9):
                dash = w @ q[b, i, h]
                query = (
                    torch.exp(dash - q[b, i, h].square().sum() / (2 * 8**0.5) - dash.max()) + FEATURE_FLOOR
                )
                weights = (keys + FEATURE_FLOOR) @ query
                out[b, i, 8 * h : 8 * h + 8] = weights @ (v[b, :, h] * mask[b, :, None]) / weights.sum()
    assert (released(x, mask) - inner.to_out(out)).abs().max() < 1e-10
    half = released.float()
    assert (half(x.float(), mask) - inner.to_out(out.float())).abs().max() < 1e-5 * values


def test_in_the_released_attention_a_cell_depends_on_its_company() -> None:
    """Without any padding; with few and small values the stabilisers are alike and it hardly shows."""
    released, favor = ReleasedAttention(64, 2, 32, 0.0, 110), FavorAttention(64, 2, 32, 0.0, 110)
    x = torch.randn(1, 60, 64)
    beside = torch.cat([x, 4 * torch.randn(1, 60, 64)])
    assert (released(x)[0] - released(beside)[0]).abs().max() > 1e-4
    assert (favor(x)[0] - favor(beside)[0]).abs().max() < 1e-5


def test_far_pads_do_not_overflow() -> None:
    q, k, v, projection = inputs(dtype=torch.float32)
    mask = torch.arange(17).expand(3, 17) < 9
    far = torch.where(mask[:, None, :, None], k, k * 1e4)
    out = attended(q, far, v, projection, mask)
    assert torch.equal(out, attended(q, k, v, projection, mask))
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert gradient.isfinite().all()


def test_bf16_autocast_stays_near_fp32() -> None:
    attention = FavorAttention(64, 4, 32, 0.0, 110)
    x = torch.randn(2, 200, 64, requires_grad=True)
    mask = ragged_mask(2, 200)
    exact = attention(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        half = attention(x, mask)
    assert half.dtype == torch.bfloat16
    assert (half - exact)[mask].norm() / exact[mask].norm() < 0.02
    (gradient,) = torch.autograd.grad(half.float().square().sum(), x)
    (wanted,) = torch.autograd.grad(exact.square().sum(), x)
    assert (gradient - wanted)[mask].norm() / wanted[mask].norm() < 0.03


def test_softmax_is_the_exact_attention() -> None:
    attention = SoftmaxAttention(16, 2, 8, 0.0)
    q, k, v = (torch.randn(2, 2, 9, 8) for _ in range(3))
    mask = ragged_mask(2, 9)
    logits = (q @ k.transpose(-1, -2) / math.sqrt(8)).masked_fill(~mask[:, None, None], -math.inf)
    expected = logits.softmax(-1) @ v
    qkv = torch.stack([q, k, v]).permute(1, 3, 0, 2, 4)
    assert torch.allclose(attention.attend(qkv, mask).transpose(1, 2), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["favor", "softmax"])
def test_cls_weights_are_those_that_forward_applies(kind: str) -> None:
    attention = FavorAttention(16, 2, 8, 0.0, 20) if kind == "favor" else SoftmaxAttention(16, 2, 8, 0.0)
    x, mask = torch.randn(3, 11, 16), ragged_mask(3, 11)
    qkv = attention.project(x)
    weights = attention.cls_weights(x, mask)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2), atol=1e-6)
    assert weights[~mask[:, None].expand(3, 2, 11)].abs().sum() == 0
    row = torch.einsum("bhl,blhd->bhd", weights, qkv[:, :, 2])
    assert torch.allclose(row, attention.attend(qkv, mask)[:, 0], atol=1e-5)


def test_projection_is_orthogonal_in_blocks() -> None:
    projection = draw_projection(266, 64)
    assert projection.shape == (266, 64)
    for block in projection.split(64):
        directions = block / block.norm(dim=1, keepdim=True)
        assert torch.allclose(directions @ directions.T, torch.eye(len(block)), atol=1e-5)


def test_redraw_follows_its_generator_and_moves_no_other_random_number() -> None:
    attention = FavorAttention(16, 2, 8, 0.0, 20)
    first = attention.projection.clone()
    state = torch.get_rng_state()
    attention.redraw(torch.Generator().manual_seed(7))
    assert torch.equal(torch.get_rng_state(), state)
    second = attention.projection.clone()
    assert not torch.equal(first, second)
    attention.redraw(torch.Generator().manual_seed(7))
    assert torch.equal(attention.projection, second)


@pytest.mark.parametrize("kind", [FavorAttention, ReleasedAttention])
def test_forward_never_redraws(kind: type[FavorAttention] | type[ReleasedAttention]) -> None:
    attention = kind(8, 1, 8, 0.1, 4).train()
    before = {name: value.clone() for name, value in attention.named_buffers()}
    for _ in range(1100):  # performer-pytorch redraws at the thousandth call
        attention(torch.randn(1, 2, 8))
    assert before
    assert all(torch.equal(value, before[name]) for name, value in attention.named_buffers())
