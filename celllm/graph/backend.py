"""The graph library behind one small interface: this module alone imports dgl.

dgl 1.1.3 is the last release that imports beside a current torch and the project has stopped. What is used
of it is a graph of two edge lists and one attention layer, which the tests compare with plain torch; another
library that offers these two takes its place by a change here.
"""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from celllm.errors import UserError

os.environ.setdefault("DGLBACKEND", "pytorch")  # without it the first import writes into the home folder
try:
    import dgl
    from dgl import DGLGraph as Graph
    from dgl.nn.pytorch import GATConv
except ImportError as error:
    raise UserError(
        f"dgl cannot be imported ({error}); install it with: pip install 'celllm[graph]'"
    ) from error


__all__ = ["Graph", "GraphAttention", "graph_with_loops"]


def graph_with_loops(source: NDArray[Any], target: NDArray[Any], n_nodes: int) -> Graph:
    """Return a directed graph of the given edges plus an edge from every node to itself."""
    loops = np.arange(n_nodes)
    ends = (torch.from_numpy(np.concatenate([part, loops]).astype(np.int64)) for part in (source, target))
    return dgl.graph(tuple(ends), num_nodes=n_nodes)


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
        self.layer = GATConv(
            size_in,
            size_out // heads,
            heads,
            feat_drop=feature_dropout,
            attn_drop=attention_dropout,
            residual=residual,
            allow_zero_in_degree=True,  # graph_with_loops leaves none; this saves a check in every call
        )

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """Map features (n_nodes, size_in) to (n_nodes, size_out)."""
        return self.layer(graph, features).flatten(1)
