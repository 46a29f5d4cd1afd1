"""The graph library behind one small interface: this module alone imports dgl.

dgl 1.1.3 is the last release that imports beside a current torch, and the project has stopped. We use a graph
built from two edge lists, three layers, and the maximum over the nodes of each graph in a batch. Where dgl is
not installed (it has no wheels beyond Python 3.11), :mod:`celllm.graph.plain` does the same in torch alone.
Another library that offers these can replace dgl by a change here.
"""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from celllm.graph import plain

os.environ.setdefault("DGLBACKEND", "pytorch")  # without it the first import writes into the home folder
try:
    import dgl
    from dgl import DGLGraph as Graph
    from dgl.nn.pytorch import GATConv, GINConv, GraphConv
except ImportError:
    dgl, Graph = None, plain.Graph


__all__ = [
    "Graph",
    "GraphAttention",
    "GraphConvolution",
    "GraphIsomorphism",
    "graph_of",
    "graph_with_loops",
    "max_by_graph",
]


def graph_of(source: NDArray[Any], target: NDArray[Any], n_nodes: int) -> Graph:
    """Return a directed graph of the given edges; a batch is one graph in several pieces."""
    ends = tuple(torch.from_numpy(part.astype(np.int64)) for part in (source, target))
    return plain.Graph(ends[0], ends[1], n_nodes) if dgl is None else dgl.graph(ends, num_nodes=n_nodes)


def graph_with_loops(source: NDArray[Any], target: NDArray[Any], n_nodes: int) -> Graph:
    """Return a directed graph of the given edges plus an edge from every node to itself."""
    loops = np.arange(n_nodes)
    return graph_of(np.concatenate([source, loops]), np.concatenate([target, loops]), n_nodes)


def max_by_graph(sizes: NDArray[Any], features: Tensor) -> Tensor:
    """Largest value of each feature in each graph: (n_nodes, k) and the nodes of each graph -> (n_graphs, k).

    The nodes of a graph stand together, in the order of the graphs; none is empty.
    """
    counts = torch.from_numpy(sizes.astype(np.int64))
    if dgl is None:
        return plain.max_by_graph(counts, features)
    return dgl.ops.segment_reduce(counts, features, reducer="max")


class GraphAttention(nn.Module):
    """One graph attention layer (Velickovic et al. 2018), heads side by side.

    Parameters
    ----------
    size_in, size_out
        Features per node before and after; ``heads`` divides ``size_out``.
    feature_dropout, attention_dropout
        Share of the input features and of the attention weights that is dropped in training.
    residual
        Add the input (through a linear map when the sizes differ) to the output.
    """

    def __init__(
        self,
        size_in: int,
        size_out: int,
        heads: int,
        feature_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        sizes = size_in, size_out // heads, heads, feature_dropout, attention_dropout
        if dgl is None:
            self.layer = plain.GATConv(*sizes, residual=residual)
        else:  # graph_with_loops leaves no node without an edge; the check is saved
            self.layer = GATConv(*sizes, residual=residual, allow_zero_in_degree=True)

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """Map features (n_nodes, size_in) to (n_nodes, size_out)."""
        return self.layer(graph, features).flatten(1)


class GraphConvolution(nn.Module):
    """One graph convolution (Kipf and Welling 2017), D^-1/2 A D^-1/2 x W + b, A with any loops it has."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        if dgl is None:
            self.layer = plain.GraphConv(size_in, size_out)
        else:
            self.layer = GraphConv(size_in, size_out, norm="both", allow_zero_in_degree=True)

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """Map features (n_nodes, size_in) to (n_nodes, size_out)."""
        return self.layer(graph, features)


class GraphIsomorphism(nn.Module):
    """One GIN layer (Xu et al. 2019): a network of two layers on the sum of a node and its neighbours."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        network = nn.Sequential(nn.Linear(size_in, size_out), nn.ReLU(), nn.Linear(size_out, size_out))
        self.layer = plain.GINConv(network) if dgl is None else GINConv(network, "sum")

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """Map features (n_nodes, size_in) to (n_nodes, size_out)."""
        return self.layer(graph, features)
