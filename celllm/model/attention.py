"""Self-attention of the encoder: padding-exact FAVOR+, exact softmax, and the released variant."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from celllm.model.dropout import Dropout
from celllm.model.favor import FEATURE_FLOOR, draw_projection, favor_attention, features
from celllm.model.settings import AttentionKind


class SelfAttention(nn.Module):
    """What the attentions share: one projection to q, k, v without bias, one back with bias, then dropout.

    Tokens are ``dim`` wide; ``heads * dim_head`` may differ from that.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim); ``mask`` (B, L) is True at real tokens, the first of them always."""
        return self.dropout(self.to_out(self.attend(self.project(x), mask).flatten(2)))

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of (B, L, dim), as (B, L, 3, heads, dim_head)."""
        return self.to_qkv(x).unflatten(-1, (3, self.heads, self.dim_head))

    def attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Attention proper, (B, L, 3, heads, dim_head) -> (B, L, heads, dim_head)."""
        raise NotImplementedError

    def cls_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights with which token 0 attends to every token, (B, heads, L), rows summing to one.

        Exactly those that :meth:`forward` applies, in memory linear in L.
        """
        q, k, _ = self.project(x).unbind(2)
        scores = self.scores(q[:, :1], k, mask).float().squeeze(2)
        return scores / scores.sum(-1, keepdim=True)

    def scores(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """Unnormalised weights of n queries (B, n, heads, dim_head) over the keys, (B, heads, n, L)."""
        raise NotImplementedError


class FavorAttention(SelfAttention):
    """FAVOR+ with a projection that changes only when :meth:`redraw` is called, never inside ``forward``.

    A redraw between the two passes of divide-and-conquer contrast would silently give a wrong gradient.
    """

    projection: Tensor

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float, n_features: int) -> None:
        super().__init__(dim, heads, dim_head, dropout)
        self.register_buffer("projection", draw_projection(n_features, dim_head))

    def redraw(self, generator: torch.Generator) -> None:
        """Draw new random features; the seed is taken from ``generator`` (CPU)."""
        n_features, dim_head = self.projection.shape
        self.projection.copy_(draw_projection(n_features, dim_head, generator))

    def attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """See :func:`celllm.model.favor.favor_attention`."""
        return favor_attention(qkv, self.projection, mask)

    def scores(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """See :meth:`SelfAttention.scores`."""
        k_features = features(k, self.projection, mask, per_row=False)
        q_features = features(q, self.projection, None, per_row=True)
        weights = q_features @ k_features.transpose(-1, -2)
        return weights if mask is None else weights.masked_fill(~mask[:, None, None], 0)


class SoftmaxAttention(SelfAttention):
    """Exact attention, quadratic in L in time, through PyTorch's fused kernels."""

    def attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Scaled dot-product attention over the real keys."""
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        keys = None if mask is None else mask[:, None, None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2)

    def scores(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        """See :meth:`SelfAttention.scores`."""
        logits = torch.einsum("bnhd,blhd->bhnl", q, k) * self.dim_head**-0.5
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, None], -math.inf)
        return logits.softmax(-1)


class ReleasedAttention(nn.Module):
    """The attention of the released CellLM code, for comparison only: performer-pytorch's, but for one thing.

    Its mask zeroes the padded values but leaves the padded keys in normaliser and stabiliser, so a cell's
    output depends on how far its batch is padded. And where performer-pytorch takes the largest exponent of
    the keys of each cell and head as stabiliser, it takes one for the whole batch, so that with the floor
    under the features a cell's output depends on the other cells even without padding.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float, n_features: int) -> None:
        super().__init__()
        from performer_pytorch import SelfAttention as PerformerSelfAttention

        self.inner = PerformerSelfAttention(
            dim, heads=heads, dim_head=dim_head, nb_features=n_features, dropout=dropout, qkv_bias=False
        )
        self.inner.fast_attention.projection_matrix.copy_(draw_projection(n_features, dim_head))

    def redraw(self, generator: torch.Generator) -> None:
        """Draw new random features; the seed is taken from ``generator`` (CPU)."""
        projection = self.inner.fast_attention.projection_matrix
        n_features, dim_head = projection.shape
        projection.copy_(draw_projection(n_features, dim_head, generator))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim) -> (B, L, dim); ``mask`` (B, L) is True at real tokens."""
        from performer_pytorch.performer_pytorch import linear_attention

        inner = self.inner
        q, k, v = (
            layer(x).unflatten(-1, (inner.heads, -1)).transpose(1, 2)
            for layer in (inner.to_q, inner.to_k, inner.to_v)
        )
        if mask is not None:
            v = v.masked_fill(~mask[:, None, :, None], 0)
        out = linear_attention(self._features(q, per_row=True), self._features(k, per_row=False), v)
        return inner.dropout(inner.to_out(out.transpose(1, 2).flatten(2)))

    def _features(self, x: Tensor, per_row: bool) -> Tensor:
        """Random features (B, heads, L, M); the stabiliser is the maximum of each row, or of everything."""
        projection = self.inner.fast_attention.projection_matrix.to(x.dtype)
        dash = x * x.shape[-1] ** -0.25 @ projection.T
        half_norm = x.square().sum(-1, keepdim=True) * (0.5 * x.shape[-1] ** -0.5)
        largest = (dash.amax(-1, keepdim=True) if per_row else dash.max()).detach()
        return len(projection) ** -0.5 * (torch.exp(dash - half_norm - largest) + FEATURE_FLOOR)


def make_attention(
    kind: AttentionKind, dim: int, heads: int, dim_head: int, dropout: float, n_features: int
) -> SelfAttention | ReleasedAttention:
    """Build the attention named ``kind``; ``n_features`` is without meaning for ``softmax``."""
    if kind == "softmax":
        return SoftmaxAttention(dim, heads, dim_head, dropout)
    if kind == "released":
        return ReleasedAttention(dim, heads, dim_head, dropout, n_features)
    return FavorAttention(dim, heads, dim_head, dropout, n_features)
