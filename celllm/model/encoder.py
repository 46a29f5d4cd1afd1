"""The cell encoder: gene and expression embeddings, then pre-LayerNorm Performer layers."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from celllm.errors import UserError
from celllm.model.attention import FavorAttention, ReleasedAttention, make_attention
from celllm.model.dropout import Dropout
from celllm.model.settings import EncoderConfig


class Embedding(nn.Module):
    """Gene embedding + expression embedding of a token.

    The gene table is frozen when it is given and trained when it is not; the vector of [CLS] beside it is
    trained, or ones that are not. [PAD] has a gene vector of zeros.
    """

    def __init__(self, config: EncoderConfig, gene_embeddings: Tensor | None) -> None:
        super().__init__()
        n, dim = config.n_genes, config.dim
        self.n_genes = n
        self.genes = nn.Embedding(n + 1, dim, padding_idx=n)  # the last row: zeros, for [CLS] and [PAD]
        self.expression = nn.Embedding(config.n_tokens, dim)
        fixed = config.cls_vector == "ones"
        self.cls = nn.Parameter(torch.ones(dim) if fixed else torch.randn(dim) * 0.02, not fixed)
        if gene_embeddings is not None:
            if tuple(gene_embeddings.shape) != (n, dim):
                found = " x ".join(map(str, gene_embeddings.shape))
                raise UserError(f"gene embeddings: expected {n} genes x {dim} dimensions, found {found}")
            self.genes.weight.data[:n] = gene_embeddings
        self.genes.weight.requires_grad_(gene_embeddings is None)

    def forward(self, gene_ids: Tensor, bins: Tensor) -> Tensor:
        """(B, L) gene ids and expression tokens -> (B, L, dim)."""
        x = self.genes(gene_ids.clamp(max=self.n_genes)) + self.expression(bins)
        is_cls = (gene_ids == self.n_genes).unsqueeze(-1)
        return torch.where(is_cls, x + self.cls, x)


class FeedForward(nn.Module):
    """Linear, GELU, dropout, linear."""

    def __init__(self, dim: int, mult: int, dropout: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, dim * mult)
        self.w2 = nn.Linear(dim * mult, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.w2(self.dropout(F.gelu(self.w1(x))))


class Layer(nn.Module):
    """Pre-LayerNorm attention and feed-forward part, each with its residual connection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = config
        self.attention_norm = nn.LayerNorm(c.dim)
        self.attention = make_attention(c.attention, c.dim, c.heads, c.dim_head, c.dropout, c.features)
        self.ff_norm = nn.LayerNorm(c.dim)
        self.ff = FeedForward(c.dim, c.ff_mult, c.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, dim) -> (B, L, dim); ``mask`` (B, L) is True at real tokens."""
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.ff(self.ff_norm(x))


class Encoder(nn.Module):
    """Cells as sequences of expressed genes -> one vector per token.

    ``gene_embeddings`` (n_genes, dim) are frozen in the model; without them the gene table is trained from
    random numbers. With ``gradient_checkpointing`` only the input of each layer is kept for the backward
    pass, and the layer runs again there.
    """

    def __init__(self, config: EncoderConfig, gene_embeddings: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config, gene_embeddings)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)
        self.gradient_checkpointing = False

    def forward(self, gene_ids: Tensor, bins: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L) int64 gene ids and expression tokens, [CLS] first -> (B, L, dim).

        ``mask`` (B, L) is True at real tokens; all are real without it. What stands at padded places has no
        meaning.
        """
        return self.norm(self.run_layers(self.embed(gene_ids, bins), mask))

    def embed(self, gene_ids: Tensor, bins: Tensor) -> Tensor:
        """Input of the first layer, (B, L, dim)."""
        return self.dropout(self.embedding(gene_ids, bins))

    def run_layers(self, x: Tensor, mask: Tensor | None, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the layers ``start`` up to and without ``stop`` on (B, L, dim), without the final norm.

        ``norm(run_layers(run_layers(x, mask, 0, n), mask, n))`` is the whole encoder on ``x``, so that what
        frozen lower layers make can be kept.
        """
        for layer in self.layers[start:stop]:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, mask, use_reentrant=False)
            else:
                x = layer(x, mask)
        return x

    def cls_attention(
        self, gene_ids: Tensor, bins: Tensor, mask: Tensor | None = None, *, layer: int | None = -1
    ) -> Tensor:
        """Weights with which [CLS] attends to every token, (B, heads, L), each row 1 in sum.

        Those of one layer, or with ``layer=None`` the mean over all layers; memory is linear in L either way.
        """
        numbers = range(len(self.layers))
        wanted = numbers if layer is None else [numbers[layer]]
        x, found = self.embed(gene_ids, bins), []
        for start, number in pairwise([0, *wanted]):
            x = self.run_layers(x, mask, start, number)
            found_layer = self.layers[number]
            assert isinstance(found_layer, Layer)
            if isinstance(found_layer.attention, ReleasedAttention):
                raise UserError(
                    "attention 'released' shows no weights; use an encoder with 'favor' or 'softmax'"
                )
            found.append(found_layer.attention.cls_weights(found_layer.attention_norm(x), mask))
        return torch.stack(found).mean(0)

    def redraw_features(self, generator: torch.Generator) -> None:
        """Draw the random features of all layers anew; only ever between two optimiser steps.

        ``generator`` is a CPU generator of its own: no other random number of the run moves.
        """
        for layer in self.layers:
            if isinstance(layer.attention, FavorAttention | ReleasedAttention):
                layer.attention.redraw(generator)


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return all parameters (frozen gene embeddings among them) and the trained ones."""
    counts = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trained in counts if trained)


def forward_flops(config: EncoderConfig, length: int) -> int:
    """Floating-point operations of the matrix products of one forward pass over a cell of ``length`` tokens.

    A backward pass takes twice as many; what it repeats to save memory is not work done. The factor of two of
    multiply and add is counted, elementwise operations are not.
    """
    c = config
    inner = c.heads * c.dim_head
    linear = 4 * c.dim * inner + 2 * c.ff_mult * c.dim**2
    # Softmax: scores and weighted values. Otherwise: features of q and of k, sums, what the queries read.
    attention = 2 * length * inner if c.attention == "softmax" else 4 * c.features * inner
    return 2 * c.depth * length * (linear + attention)
