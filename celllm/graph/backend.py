"""The graph library behind one small interface: this module alone imports dgl.

dgl 1.1.3 is the last release that imports beside a current torch, and the project has stopped. GraphMAE uses
a graph built from two edge lists, and graph attention. Where dgl is not installed (it has no wheels beyond
Python 3.11), :mod:`celllm.graph.plain` does the same in torch alone, as it does everywhere for the small
graphs of drugs. Another library can replace dgl by a change here.
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
    from dgl.nn.pytorch import GATConv
except ImportError:
    dgl, Graph = None, plain.Graph


__all__ = ["Graph", "GraphAttention", "graph_with_loops"]


def graph_with_loops(source: NDArray[Any], target: NDArray[Any], n_nodes: int) -> Graph:
    """Return a directed graph of the given edges plus an edge from every node to itself."""
    loops = np.arange(n_nodes)
    both = (np.concatenate([ends, loops]).astype(np.int64) for ends in (source, target))
    leaves, enters = map(torch.from_numpy, both)
    if dgl is None:
        return plain.Graph(leaves, enters, n_nodes)
    return dgl.graph((leaves, enters), num_nodes=n_nodes)


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
