"""Graph attention of the library against the formula of Velickovic et al. 2018 in plain torch."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from celllm.graph.backend import GraphAttention, graph_with_loops

N_NODES, SIZE_IN, SIZE_OUT, HEADS = 12, 5, 6, 2
EDGES = sorted({(s, t) for s in range(11) for t in range(11) if s != t and (3 * s + 5 * t) % 4 == 0})
SOURCE, TARGET = np.array(EDGES).T


def reference(layer: GraphAttention, features: Tensor) -> Tensor:
    """One dense matrix of attention per head; an edge source -> target brings the source's message."""
    own = layer.layer
    values = own.fc(features).view(N_NODES, HEADS, -1)
    towards = (values * own.attn_l).sum(-1), (values * own.attn_r).sum(-1)
    linked = torch.eye(N_NODES, dtype=torch.bool)
    linked[torch.from_numpy(TARGET), torch.from_numpy(SOURCE)] = True
    heads = []
    for head in range(HEADS):
        scores = F.leaky_relu(towards[0][None, :, head] + towards[1][:, None, head], 0.2)
        weights = scores.masked_fill(~linked, -torch.inf).softmax(dim=1)
        heads.append(weights @ values[:, head])
    out = torch.cat(heads, dim=1)
    return out + (own.bias if own.res_fc is None else own.res_fc(features))  # the residual map has the bias


@pytest.mark.parametrize("residual", [False, True])
def test_output_and_gradients_are_those_of_the_formula(residual: bool) -> None:
    torch.manual_seed(0)
    layer = GraphAttention(SIZE_IN, SIZE_OUT, HEADS, residual=residual).double()
    features = torch.randn(N_NODES, SIZE_IN, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(N_NODES, SIZE_OUT, dtype=torch.float64)
    inputs = [features, *layer.parameters()]

    ours = layer(graph_with_loops(SOURCE, TARGET, N_NODES), features)
    theirs = reference(layer, features)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    pairs = zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    )
    for one, other in pairs:
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_heads_stand_side_by_side_and_every_node_hears_itself() -> None:
    layer = GraphAttention(SIZE_IN, SIZE_OUT, HEADS)
    graph = graph_with_loops(SOURCE, TARGET, N_NODES)
    assert graph.num_edges() == len(SOURCE) + N_NODES
    features = torch.randn(N_NODES, SIZE_IN)
    out = layer(graph, features)
    assert out.shape == (N_NODES, SIZE_OUT)
    alone = layer.layer.fc(features[11]) + layer.layer.bias  # node 11 has no edge but its loop
    torch.testing.assert_close(out[11], alone)
