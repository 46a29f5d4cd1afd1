"""What :mod:`celllm.graph.backend` needs of dgl, in plain torch, for Python versions without wheels of dgl.

Parameters have dgl's names and are drawn in its order: a seed makes the same layers, and a file of weights
fits both. Results differ by rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Graph:
    """A directed graph: int64 nodes (n_edges,) that each edge leaves and enters."""

    source: Tensor
    target: Tensor
    n_nodes: int

    def num_edges(self) -> int:
        """Number of edges, as dgl's graphs say it."""
        return len(self.source)

    def sum_messages(self, messages: Tensor) -> Tensor:
        """Sums over the edges that enter each node, (n_edges, ...) -> (n_nodes, ...)."""
        return messages.new_zeros(self.n_nodes, *messages.shape[1:]).index_add(0, self.target, messages)

    def softmax(self, scores: Tensor) -> Tensor:
        """Softmax of (n_edges, k) over the edges that enter the same node."""
        target = self.target[:, None].expand_as(scores)
        lowest = scores.new_full((self.n_nodes, scores.shape[1]), -torch.inf)
        highest = lowest.scatter_reduce(0, target, scores.detach(), "amax")
        weights = (scores - highest[self.target]).exp()
        return weights / self.sum_messages(weights)[self.target]


class GATConv(nn.Module):
    """Graph attention (Velickovic et al. 2018)."""

    def __init__(
        self, size_in: int, size: int, heads: int, feat_drop: float, attn_drop: float, residual: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.fc = nn.Linear(size_in, heads * size, bias=False)
        self.attn_l, self.attn_r = (nn.Parameter(torch.empty(1, heads, size)) for _ in range(2))
        self.feat_drop, self.attn_drop = nn.Dropout(feat_drop), nn.Dropout(attn_drop)
        mapped = residual and size_in != heads * size
        self.res_fc = nn.Linear(size_in, heads * size) if mapped else nn.Identity() if residual else None
        self.bias = None if mapped else nn.Parameter(torch.zeros(heads * size))
        gain = nn.init.calculate_gain("relu")
        for weight in (self.fc.weight, self.attn_l, self.attn_r):
            nn.init.xavier_normal_(weight, gain)
        if isinstance(self.res_fc, nn.Linear):
            nn.init.xavier_normal_(self.res_fc.weight, gain)
            nn.init.zeros_(self.res_fc.bias)

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """(n_nodes, size_in) -> (n_nodes, heads, size)."""
        x = self.feat_drop(features)
        values = self.fc(x).unflatten(1, (self.heads, -1))
        leaving, entering = ((values * attention).sum(-1) for attention in (self.attn_l, self.attn_r))
        scores = F.leaky_relu(leaving[graph.source] + entering[graph.target], 0.2)
        weights = self.attn_drop(graph.softmax(scores).unsqueeze(-1))
        out = graph.sum_messages(values[graph.source] * weights).flatten(1)
        if self.res_fc is not None:
            out = out + self.res_fc(x)
        return (out if self.bias is None else out + self.bias).unflatten(1, (self.heads, -1))


class GraphConv(nn.Module):
    """Graph convolution (Kipf and Welling 2017), D^-1/2 A D^-1/2 x W + b."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(size_in, size_out)))
        self.bias = nn.Parameter(torch.zeros(size_out))

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """(n_nodes, size_in) -> (n_nodes, size_out)."""
        leaving, entering = (
            torch.bincount(ends, minlength=graph.n_nodes).clamp(min=1).to(features.dtype).pow(-0.5)[:, None]
            for ends in (graph.source, graph.target)
        )
        return graph.sum_messages(((features * leaving) @ self.weight)[graph.source]) * entering + self.bias


class GINConv(nn.Module):
    """Graph isomorphism (Xu et al. 2019): a network on the sum of a node and its neighbours."""

    eps: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.apply_func = network
        self.register_buffer("eps", torch.zeros(1))

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """(n_nodes, size_in) -> (n_nodes, size_out)."""
        return self.apply_func((1 + self.eps) * features + graph.sum_messages(features[graph.source]))


def max_by_graph(sizes: Tensor, features: Tensor) -> Tensor:
    """Largest value of each feature in each graph; of equal ones the first gets the gradient, as in dgl."""
    n = len(features)
    graph = torch.repeat_interleave(torch.arange(len(sizes)), sizes)[:, None].expand_as(features)
    lowest = features.new_full((len(sizes), features.shape[1]), -torch.inf)
    highest = lowest.scatter_reduce(0, graph, features.detach(), "amax")
    places = torch.arange(n)[:, None].expand_as(features)
    largest = torch.where(features.detach() == highest.gather(0, graph), places, n)
    first = torch.full(lowest.shape, n).scatter_reduce(0, graph, largest, "amin")
    return features.gather(0, first)
