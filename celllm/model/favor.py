"""FAVOR+: softmax attention through positive random features, linear in the number of tokens.

Choromanski et al. 2021, "Rethinking attention with performers", in the form that performer-pytorch gives it.
For one head, with queries, keys and values q, k, v (L x d), a projection W (M x d), e = 1e-4 and
x' = x / d^(1/4), row i of the output is

    sum_j phi_q(i) . phi_k(j) v_j  /  sum_j phi_q(i) . phi_k(j)

    phi_q(i) = exp(W q'_i - |q'_i|^2 / 2 - max(W q'_i)) + e
    phi_k(j) = exp(W k'_j - |k'_j|^2 / 2 - max over j of (W k'_j)) + e

where every sum and the maximum run over real keys only. Here the features never exist as a whole: heads are
taken a few at a time, so that what is worked on stays in the processor's cache, and are made again in the
backward pass. Two rearrangements keep the passes over them few and their rounding harmless:

- the factor exp(-|x'|^2 / 2) of a row multiplies its value (keys) or its sum (queries), not its features;
- the floor e is added to the sums: it contributes e times the sum over features or over values.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from celllm.model.compilation import Opaque

FEATURE_FLOOR = 1e-4

# Features in work at a time by kind of device: on a CPU about as many as the caches of two cores hold.
BLOCK = {"cpu": 2**20}
# Elsewhere as many as this, and in a forward and in a backward pass at most this share of the free memory.
ACCELERATOR_BLOCK = 2**28
FREE_SHARE = 0.25
BACKWARD_ROOMS = 2

# Rows of features begin at multiples of so many elements; at 266, some products take twice as long.
ALIGNED = 16


def draw_projection(n_features: int, dim_head: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw orthogonal random features (n_features, dim_head), float32 on the CPU, with performer-pytorch.

    The seed comes from ``generator``, or from the global CPU generator; no other random state moves.
    """
    from performer_pytorch.performer_pytorch import gaussian_orthogonal_random_matrix

    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would seed the accelerators too, which fork_rng leaves alone here.
        torch.random.default_generator.manual_seed(seed)
        return gaussian_orthogonal_random_matrix(n_features, dim_head)


@Opaque
def favor_attention(qkv: Tensor, projection: Tensor, mask: Tensor | None = None) -> Tensor:
    """Linear attention through random features; on unpadded input the numbers of performer-pytorch.

    ``qkv`` (B, L, 3, H, dim_head), float64, float32 or bfloat16, and ``projection`` (n_features, dim_head)
    -> (B, L, H, dim_head). Products of matrices run in the type of ``qkv`` with its usual accumulator; row
    factors and normalisers are float32 at least.

    ``mask`` (B, L) is True at real tokens; the first token of every cell must be real. Padded keys enter
    neither numerator nor normaliser nor stabiliser: a cell's output does not depend on its padding.
    """
    w = (projection * qkv.shape[-1] ** -0.25).to(qkv.dtype)
    real = torch.ones(qkv.shape[:2], dtype=torch.bool, device=qkv.device) if mask is None else mask
    return _Favor.apply(qkv, w, real)


def features(x: Tensor, projection: Tensor, mask: Tensor | None, per_row: bool) -> Tensor:
    """Random features (B, H, L, n_features) in full, for looking at weights rather than for training.

    ``x`` (B, L, H, dim_head) holds queries, of which each row has a maximum of its own (``per_row``), or
    keys, of which all real rows share one. The others as in :func:`favor_attention`.
    """
    x = x.transpose(1, 2)
    dash = x @ (projection * x.shape[-1] ** -0.25).to(x.dtype).T
    real = dash if mask is None else torch.where(mask[:, None, :, None], dash, dash[:, :, :1])
    largest = real.amax(-1 if per_row else (-1, -2), keepdim=True)
    return torch.exp(dash - largest).mul(_row_factor(x)) + FEATURE_FLOOR


class _Favor(torch.autograd.Function):
    """The attention and its gradient, a few heads at a time.

    For the n heads of a block: q, k (n, L, d); e (n, L, M), features without row factor and floor; values
    (n, L, d + 1), those of the head and a column of ones, which sums up the normaliser, times the row factor
    of the key, zero at pads; sums (n, d + 1, M). With phi = factor * e + floor, o = phi_q sums and
    out = o[:d] / o[d], the gradients are

        dsums = phi_q^T do       dphi_q = do sums^T       dphi_k = values dsums^T       dvalues = phi_k dsums

    and through phi = exp(W x' - |x'|^2 / 2 ...) the input x' gets (dphi * phi) W - rowsum(dphi * phi) x'.
    The maxima count as constants, as in performer-pytorch.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, w: Tensor, real: Tensor) -> Tensor:
        q, k, v = qkv.unbind(2)
        b, length, h, d = q.shape
        q_factor, k_factor = _row_factor(qkv[:, :, :2]).permute(2, 0, 3, 1, 4).contiguous()
        k_factor.masked_fill_(~real[:, None, :, None], 0)
        k_scale = k_factor.to(qkv.dtype)
        floors = _floors_of_values(v, real)
        out, normaliser = qkv.new_empty(q.shape), torch.empty_like(q_factor)
        ctx.block_size = block_size(qkv)
        sums = qkv.new_empty(b, h, d + 1, len(w))
        q_max, k_max = qkv.new_empty(b, h, length, 1), qkv.new_empty(b, h, 1, 1)
        with _without_autocast(qkv.device.type):
            for block in _blocks(q, len(w), ctx.block_size):
                e = block.project(block.keys(k, real), w)
                block.of(k_max).copy_(largest := e.amax((-1, -2), keepdim=True))
                e.sub_(largest).exp_()
                scale = block.of(k_scale)
                s = torch.bmm(_joined(block.rows(v), scale, scale).transpose(1, 2), e)
                block.of(sums).copy_(s.add_(block.of(floors)))

                e = block.project(block.rows(q), w)
                block.of(q_max).copy_(largest := e.amax(-1, keepdim=True))
                e.sub_(largest).exp_()
                o = torch.bmm(e, s.transpose(1, 2)).to(q_factor.dtype).mul_(block.of(q_factor))
                o += FEATURE_FLOOR * s.sum(-1, dtype=o.dtype).unsqueeze(1)
                block.of(normaliser).copy_(o[..., d:])
                block.put(out, o[..., :d].div_(o[..., d:]))
        ctx.save_for_backward(qkv, w, real, out, sums, q_max, k_max, q_factor, k_scale, normaliser)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        qkv, w, real, out, sums, q_max, k_max, q_factor, k_scale, normaliser = ctx.saved_tensors
        q, k, v = qkv.unbind(2)
        dqkv = torch.empty_like(qkv)
        dq, dk, dv = dqkv.unbind(2)
        real_keys = real[:, None, :, None].expand_as(k_scale)
        w_ones = torch.cat([w, w.new_ones(len(w), 1)], dim=1)
        # do = (dout | -<dout, out>) / normaliser; what goes to the features is times the factor of its row.
        inverse = normaliser.reciprocal()
        last = (dout * out).sum(-1, dtype=inverse.dtype).transpose(1, 2).unsqueeze(-1).mul(inverse).neg_()
        inverse_scaled, last_scaled = ((x * q_factor).to(qkv.dtype) for x in (inverse, last))
        inverse, last_sum = inverse.to(qkv.dtype), last.sum(2, keepdim=True).to(qkv.dtype)
        with _without_autocast(qkv.device.type):
            for block in _blocks(q, len(w), ctx.block_size, BACKWARD_ROOMS):
                x, g, s = block.rows(q), block.rows(dout), block.of(sums)
                e = block.project(x, w).sub_(block.of(q_max)).exp_()
                do = _joined(g, block.of(inverse_scaled), block.of(last_scaled))
                do_sum = torch.cat([block.of(inverse).transpose(1, 2) @ g, block.of(last_sum)], dim=-1)
                ds = torch.bmm(do.transpose(1, 2), e).add_(do_sum.transpose(1, 2), alpha=FEATURE_FLOOR)
                block.put(dq, _through_features(block.second(do, s).mul_(e), w_ones, x))

                x, scale = block.keys(k, real), block.of(k_scale)
                e = block.project(x, w).sub_(block.of(k_max)).exp_()
                floor = FEATURE_FLOOR * ds[:, :-1].sum(-1).unsqueeze(1) * block.of(real_keys)
                block.put(dv, torch.addcmul(floor, torch.bmm(e, ds[:, :-1].transpose(1, 2)), scale))
                values = _joined(block.rows(v), scale, scale)
                block.put(dk, _through_features(block.second(values, ds).mul_(e), w_ones, x))
        return dqkv, None, None


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    """Products in the type of the inputs; a device that knows no autocast (meta) is left alone."""
    return torch.autocast(device, enabled=False) if device != "meta" else nullcontext()


@dataclass(frozen=True)
class _Block:
    """Some heads of one cell or all heads of some cells, and rooms of the size of their features.

    A room is (n, L, M) with memory between its rows; it can still be viewed as (n * L, M).
    """

    cells: slice
    heads: slice
    rooms: Tensor

    def rows(self, x: Tensor) -> Tensor:
        """(B, L, H, d) -> (n, L, d), contiguous."""
        return x[self.cells, :, self.heads].transpose(1, 2).flatten(0, 1).contiguous()

    def keys(self, k: Tensor, real: Tensor) -> Tensor:
        """Like rows, pads replaced by the first key: of what stands there only the maximum takes notice."""
        k = k[self.cells, :, self.heads].transpose(1, 2)
        return torch.where(real[self.cells, None, :, None], k, k[:, :, :1]).flatten(0, 1).contiguous()

    def put(self, x: Tensor, rows: Tensor) -> None:
        """Write (n, L, d) to its place in (B, L, H, d)."""
        place = x[self.cells, :, self.heads].transpose(1, 2)
        place.copy_(rows.view(place.shape))

    def of(self, x: Tensor) -> Tensor:
        """(B, H, ...) -> (n, ...), a view."""
        return x[self.cells, self.heads].flatten(0, 1)

    def project(self, x: Tensor, w: Tensor) -> Tensor:
        """W x' of every row, (n, L, d) -> (n, L, M), in the first room."""
        e = self.rooms[0, : len(x)]
        torch.mm(x.view(-1, x.shape[-1]), w.T, out=e.view(-1, len(w)))
        return e

    def second(self, a: Tensor, b: Tensor) -> Tensor:
        """(n, L, d + 1) times (n, d + 1, M), in the second room."""
        return torch.bmm(a, b, out=self.rooms[1, : len(a)])


def block_size(x: Tensor) -> int:
    """Features in work at a time on the device of ``x`` and in its number type; it changes no result.

    Settled in the forward pass, when less memory is in use, and kept for the backward pass, whose blocks are
    then the same. On an accelerator all heads of all cells are one block where they fit.
    """
    if x.device.type in BLOCK:
        return BLOCK[x.device.type]
    fitting = FREE_SHARE * free_bytes(x.device) / (BACKWARD_ROOMS * x.element_size())
    return int(min(ACCELERATOR_BLOCK, fitting))


def free_bytes(device: torch.device) -> float:
    """Memory that can still be had, with what PyTorch's allocator keeps; infinite without CUDA."""
    if device.type != "cuda":
        return math.inf
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def _blocks(q: Tensor, n_features: int, size: int, n_rooms: int = 1) -> Iterator[_Block]:
    """Cut the heads of all cells into blocks of at most ``size`` features, and of one head at least."""
    b, length, h, _ = q.shape
    row = -(-n_features // ALIGNED) * ALIGNED
    fitting = max(1, size // (length * row))
    heads = -(-h // -(-h // fitting))  # equal parts of a cell's heads
    cells = max(1, min(b, fitting // h))
    rooms = q.new_empty(n_rooms, cells * heads, length, row)[..., :n_features]
    for i in range(0, b, cells):
        for j in range(0, h, heads):
            yield _Block(slice(i, i + cells), slice(j, j + heads), rooms)


def _row_factor(x: Tensor) -> Tensor:
    """exp(-|x'|^2 / 2) of every row, (..., d) -> (..., 1), float32 at least."""
    kind = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=kind)
    return torch.exp(norm.square() * (-0.5 * x.shape[-1] ** -0.5))


def _floors_of_values(v: Tensor, real: Tensor) -> Tensor:
    """What the floor of the keys' features adds to the sums, (B, H, d + 1, 1)."""
    b, _, h, d = v.shape
    total = torch.bmm(real.unsqueeze(1).to(v.dtype), v.flatten(2)).view(b, h, d)
    count = real.sum(1).view(b, 1, 1).expand(b, h, 1)
    return torch.cat([total, count], dim=-1).unsqueeze(-1).mul_(FEATURE_FLOOR)


def _joined(x: Tensor, scale: Tensor, last: Tensor) -> Tensor:
    """(x * scale | last): (n, L, d), (n, L, 1), (n, L, 1) -> (n, L, d + 1)."""
    d = x.shape[-1]
    joined = x.new_empty(*x.shape[:-1], d + 1)
    torch.mul(x, scale, out=joined[..., :d])
    joined[..., d:] = last
    return joined


def _through_features(dexponent: Tensor, w_ones: Tensor, x: Tensor) -> Tensor:
    """Gradient of the rows ``x`` (n, L, d) from that of the exponents of their features (n, L, M)."""
    d = x.shape[-1]
    dx = torch.mm(dexponent.view(-1, len(w_ones)), w_ones).view(*x.shape[:-1], d + 1)
    return torch.addcmul(dx[..., :d], dx[..., d:], x, value=-(d**-0.5))
