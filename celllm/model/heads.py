"""What stands on top of the encoder: pooling over genes, and the heads of the objectives (Table F.1)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from celllm.model.settings import Activation, PoolingActivation

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU}


class GenePooling(nn.Module):
    """Map each token's vector to one number and put it at its gene's place in the full vocabulary.

    The (1 x dim) convolution of the paper (appendix F, "Pooling"); genes that a cell does not express are 0.
    The released heads differ in the activation of the numbers: ReLU for the labels of cells, none for drug
    response.
    """

    def __init__(self, n_genes: int, dim: int, activation: PoolingActivation = "none") -> None:
        super().__init__()
        self.n_genes, self.activation = n_genes, activation
        # A convolution with a (1 x dim) kernel over (L x dim) is this linear map of every token.
        self.to_number = nn.Linear(dim, 1)

    def forward(self, states: Tensor, gene_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim), (B, L), (B, L) -> (B, n_genes + 1); the last place is that of [CLS]."""
        numbers = self.to_number(states).squeeze(-1)
        if self.activation == "relu":
            numbers = numbers.relu()
        if mask is not None:
            numbers = numbers.masked_fill(~mask, 0)
        places = numbers.new_zeros(len(numbers), self.n_genes + 2)
        return places.scatter(1, gene_ids, numbers)[:, :-1]


def feed_forward(
    sizes: Sequence[int], activation: Activation = "relu", dropout: float = 0.1, last: bool = False
) -> nn.Sequential:
    """Linear layers of the given sizes (input first), activation and dropout between them.

    With ``last`` the last layer gets activation and dropout too, for a trunk that something else follows.
    """
    steps: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        steps.append(nn.Linear(n_in, n_out))
        if last or i < len(sizes) - 2:
            steps += [_ACTIVATIONS[activation](), nn.Dropout(dropout)]
    return nn.Sequential(*steps)


class ClassificationHead(nn.Module):
    """Gene pooling and feed-forward layers of these widths, the last of them the number of outputs.

    Table F.1 has (512, 128, classes) for annotation and (512, 32, 2) for drug sensitivity. ``pooling`` is the
    activation between the gene convolution and the layers, ``activation`` that between the layers.
    """

    def __init__(
        self,
        n_genes: int,
        dim: int,
        sizes: Sequence[int],
        activation: Activation = "relu",
        dropout: float = 0.1,
        pooling: PoolingActivation = "relu",
    ) -> None:
        super().__init__()
        self.pooling = GenePooling(n_genes, dim, pooling)
        self.layers = feed_forward([n_genes + 1, *sizes], activation, dropout)

    def forward(self, states: Tensor, gene_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim), (B, L), (B, L) -> (B, sizes[-1])."""
        return self.layers(self.pooling(states, gene_ids, mask))


class ContrastPooling(nn.Module):
    """Gene pooling and one linear layer: the vector that the contrastive loss compares (512 in Table F.1).

    No activation between them: appendix F names a convolution and a linear layer; the code of pre-training
    was never released.
    """

    def __init__(self, n_genes: int, dim: int, size: int = 512) -> None:
        super().__init__()
        self.pooling = GenePooling(n_genes, dim)
        self.linear = nn.Linear(n_genes + 1, size)

    def forward(self, states: Tensor, gene_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, dim), (B, L), (B, L) -> (B, size)."""
        return self.linear(self.pooling(states, gene_ids, mask))


class MaskedExpressionHead(nn.Module):
    """Expression token of a masked gene from its final vector."""

    def __init__(self, dim: int, n_tokens: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, n_tokens)

    def forward(self, states: Tensor, chosen: Tensor) -> Tensor:
        """(B, L, dim) and the bool mask (B, L) of n chosen tokens -> logits (n, n_tokens)."""
        return self.linear(states[chosen])


class TumourHead(nn.Module):
    """Tumour or normal from the final vector of [CLS]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2)

    def forward(self, states: Tensor) -> Tensor:
        """(B, L, dim) -> logits (B, 2): normal, tumour."""
        return self.linear(states[:, 0])


def cell_embedding(states: Tensor, mask: Tensor, how: Literal["mean", "cls"] = "mean") -> Tensor:
    """One vector per cell, (B, dim), from the vectors of its tokens (B, L, dim).

    Either the mean over the cell's genes (without [CLS], the first token; 0 for a cell without genes), or the
    vector of [CLS]. ``mask`` (B, L) is True at real tokens.
    """
    if how == "cls":
        return states[:, 0]
    genes = mask.clone()
    genes[:, 0] = False
    total = torch.where(genes.unsqueeze(-1), states, 0).sum(1)
    return total / genes.sum(1, keepdim=True).clamp(min=1)
