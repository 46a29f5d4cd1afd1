"""Graph layers in plain torch, on any device: those of drugs, and graph attention where there is no dgl.

Parameters have dgl's names and are drawn in its order: a seed makes the same layers, and a file of weights
fits both. Results differ by rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Graph:
    """A directed graph: int64 nodes (n_edges,) that each edge leaves and enters; several graphs are one."""

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
        leaving, entering = (  # degrees of nodes without an edge count as 1
            torch.bincount(ends, minlength=graph.n_nodes).clamp(min=1).to(features.dtype).pow(-0.5)[:, None]
            for ends in (graph.source, graph.target)
        )
        return graph.sum_messages(((features * leaving) @ self.weight)[graph.source]) * entering + self.bias


class GINConv(nn.Module):
    """Graph isomorphism (Xu et al. 2019): a network of two layers on the sum of a node and its neighbours."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.apply_func = nn.Sequential(
            nn.Linear(size_in, size_out), nn.ReLU(), nn.Linear(size_out, size_out)
        )

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """(n_nodes, size_in) -> (n_nodes, size_out)."""
        return self.apply_func(features + graph.sum_messages(features[graph.source]))


def max_by_graph(sizes: Tensor, features: Tensor) -> Tensor:
    """Largest value of each feature in each graph: (n_nodes, k) and the nodes of each -> (n_graphs, k).

    The nodes of a graph stand together, in the order of the graphs; none is empty. Of equal values the first
    gets the gradient, as in dgl.
    """
    n, device = len(features), features.device
    graph = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes, output_size=n)
    graph = graph[:, None].expand_as(features)
    lowest = features.new_full((len(sizes), features.shape[1]), -torch.inf)
    highest = lowest.scatter_reduce(0, graph, features.detach(), "amax")
    places = torch.arange(n, device=device)[:, None].expand_as(features)
    largest = torch.where(features.detach() == highest.gather(0, graph), places, n)
    first = torch.full(lowest.shape, n, device=device).scatter_reduce(0, graph, largest, "amin")
    return features.gather(0, first)


def mean_by_graph(sizes: Tensor, features: Tensor) -> Tensor:
    """The mean in place of the largest value; see :func:`max_by_graph`."""
    graph = torch.repeat_interleave(sizes, output_size=len(features))
    sums = features.new_zeros(len(sizes), features.shape[1]).index_add(0, graph, features)
    return sums / sizes[:, None]
