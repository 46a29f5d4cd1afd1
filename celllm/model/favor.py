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

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FEATURE_FLOOR = 1e-4

# Features in work at a time on a CPU: about as many as the caches of two cores hold.
_BLOCK = 2**20


def draw_projection(n_features: int, dim_head: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw orthogonal random features with performer-pytorch.

    Parameters
    ----------
    n_features, dim_head : int
        Rows and columns of the projection.
    generator : torch.Generator, optional
        Where the seed of this draw comes from; the global CPU generator without it.

    Returns
    -------
    Tensor
        (n_features, dim_head) float32 on the CPU. The draw of the seed is all that moves a random state.
    """
    from performer_pytorch.performer_pytorch import gaussian_orthogonal_random_matrix

    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would seed the accelerators too, which fork_rng leaves alone here.
        torch.random.default_generator.manual_seed(seed)
        return gaussian_orthogonal_random_matrix(n_features, dim_head)


def favor_attention(
    q: Tensor, k: Tensor, v: Tensor, projection: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Linear attention through random features; on unpadded input the numbers of performer-pytorch.

    Parameters
    ----------
    q, k, v : Tensor
        (B, H, L, dim_head), float64, float32 or bfloat16. Products of matrices run in this type with its
        usual accumulator; row factors, floors and the division by the normaliser in float32 at least.
    projection : Tensor
        (n_features, dim_head).
    mask : Tensor, optional
        (B, L) bool, True at real tokens; the first token of every cell must be real. Padded keys enter
        neither numerator nor normaliser nor stabiliser: a cell's output does not depend on its padding.

    Returns
    -------
    Tensor
        (B, H, L, dim_head).
    """
    values = torch.nn.functional.pad(v, (0, 1), value=1.0)  # the column of ones sums up the normaliser
    if mask is not None:
        real = mask[:, None, :, None]
        # A copy of a real key leaves the maximum as it is; values of zero take the copy out of the sums.
        k = torch.where(real, k, k[:, :, :1])
        values = torch.where(real, values, 0.0)
    w = (projection * q.shape[-1] ** -0.25).to(q.dtype)
    out = _Favor.apply(q.flatten(0, 1), k.flatten(0, 1), values.flatten(0, 1), w)
    return out.view(v.shape)


def features(x: Tensor, projection: Tensor, mask: Tensor | None, per_row: bool) -> Tensor:
    """Random features in full, (B, H, L, n_features), for looking at weights rather than for training.

    ``per_row`` takes the maximum of each row (queries) instead of that of all real rows (keys).
    """
    dash = x @ (projection * x.shape[-1] ** -0.25).to(x.dtype).T
    real = dash if mask is None else torch.where(mask[:, None, :, None], dash, dash[:, :, :1])
    largest = real.amax(-1 if per_row else (-1, -2), keepdim=True)
    return torch.exp(dash - largest).mul(_row_factor(x)) + FEATURE_FLOOR


class _Favor(torch.autograd.Function):
    """The attention of N heads: q, k (N, L, d), values and ones (N, L, d + 1), scaled projection (M, d).

    With sums = phi_k^T values, o = phi_q sums and out = o[:, :d] / o[:, d], the gradients are

        dsums = phi_q^T do       dphi_q = do sums^T       dphi_k = values dsums^T       dvalues = phi_k dsums

    and through phi = exp(W x' - |x'|^2 / 2 ...) the input x' gets (dphi * phi) W - rowsum(dphi * phi) x'.
    The maxima count as constants, as in performer-pytorch.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, values: Tensor, w: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        n, length, dim = q.shape
        q_factor, k_factor = _row_factor(q), _row_factor(k)
        out, sums = torch.empty_like(q), q.new_empty(n, dim + 1, len(w))
        q_max, k_max = q.new_empty(n, length, 1), q.new_empty(n, 1, 1)
        normaliser = torch.empty_like(q_factor)
        with torch.autocast(q.device.type, enabled=False):
            for i, buffer in _blocks(q, len(w)):
                e = _project(k[i], w, buffer)
                k_max[i] = e.amax((-1, -2), keepdim=True)
                e.sub_(k_max[i]).exp_()
                sums[i] = torch.bmm(_scaled(values[i], k_factor[i]).transpose(1, 2), e)
                sums[i] += _floor(values[i], 1).transpose(1, 2)

                e = _project(q[i], w, buffer)
                q_max[i] = e.amax(-1, keepdim=True)
                e.sub_(q_max[i]).exp_()
                o = torch.bmm(e, sums[i].transpose(1, 2)) * q_factor[i] + _floor(sums[i], 2).transpose(1, 2)
                normaliser[i] = o[..., dim:]
                out[i] = o[..., :dim] / o[..., dim:]
        ctx.save_for_backward(q, k, values, w, out, sums, q_max, k_max, q_factor, k_factor, normaliser)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor | None) -> tuple[Tensor | None, ...]:
        if dout is None:
            return None, None, None, None
        q, k, values, w, out, sums, q_max, k_max, q_factor, k_factor, normaliser = ctx.saved_tensors
        dq, dk, dvalues = torch.empty_like(q), torch.empty_like(k), torch.empty_like(values)
        w_ones = torch.cat([w, w.new_ones(len(w), 1)], dim=1)
        second = torch.empty_like(next(_blocks(q, len(w)))[1])
        with torch.autocast(q.device.type, enabled=False):
            for i, buffer in _blocks(q, len(w)):
                do = torch.cat([dout[i], -(dout[i] * out[i]).sum(-1, keepdim=True)], dim=-1) / normaliser[i]
                do_scaled = (do * q_factor[i]).to(q.dtype)
                e = _project(q[i], w, buffer).sub_(q_max[i]).exp_()
                dsums = torch.bmm(do_scaled.transpose(1, 2), e) + _floor(do, 1).transpose(1, 2).to(q.dtype)
                dphi = torch.bmm(do_scaled, sums[i], out=second[: len(e)])
                dq[i] = _through_features(dphi.mul_(e), w_ones, q[i])

                e = _project(k[i], w, buffer).sub_(k_max[i]).exp_()
                dvalues[i] = torch.bmm(e, dsums.transpose(1, 2)) * k_factor[i] + _floor(dsums, 2).transpose(
                    1, 2
                )
                dphi = torch.bmm(_scaled(values[i], k_factor[i]), dsums, out=second[: len(e)])
                dk[i] = _through_features(dphi.mul_(e), w_ones, k[i])
        return dq, dk, dvalues, None


def _blocks(x: Tensor, n_features: int) -> Iterator[tuple[slice, Tensor]]:
    """Ranges of heads that are worked on together, each with room for their features."""
    n, length, _ = x.shape
    step = n if x.device.type != "cpu" else min(n, max(1, _BLOCK // (length * n_features)))
    buffer = x.new_empty(step, length, n_features)
    for start in range(0, n, step):
        stop = min(start + step, n)
        yield slice(start, stop), buffer[: stop - start]


def _project(x: Tensor, w: Tensor, out: Tensor) -> Tensor:
    """W x' of every row, (n, L, d) -> (n, L, M), written to ``out``."""
    torch.mm(x.flatten(0, 1), w.T, out=out.view(-1, len(w)))
    return out


def _row_factor(x: Tensor) -> Tensor:
    """exp(-|x'|^2 / 2) of every row, (..., L, 1), float32 at least."""
    kind = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=kind)
    return norm.square_().mul_(-0.5 * x.shape[-1] ** -0.5).exp_()


def _scaled(values: Tensor, factor: Tensor) -> Tensor:
    return values * factor.to(values.dtype)


def _floor(x: Tensor, dim: int) -> Tensor:
    """What the floor of the features adds to a sum of ``x`` over ``dim``; float32 at least."""
    kind = torch.promote_types(x.dtype, torch.float32)
    return x.sum(dim, keepdim=True, dtype=kind) * FEATURE_FLOOR


def _through_features(dexponent: Tensor, w_ones: Tensor, x: Tensor) -> Tensor:
    """Gradient of the rows ``x`` from that of the exponents of their features."""
    n_features, wide = w_ones.shape
    dx = torch.mm(dexponent.view(-1, n_features), w_ones).view(*x.shape[:-1], wide)
    return dx[..., :-1] - dx[..., -1:] * x * x.shape[-1] ** -0.5
