"""Graph attention of the library against the formula of Velickovic et al. 2018 in plain torch."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from celllm.graph import backend, plain
from celllm.graph.backend import GraphAttention, graph_with_loops
from celllm.graph.graphmae import GraphMAESettings, embed_genes
from celllm.graph.network import GeneNetwork

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


LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "attention": lambda: GraphAttention(SIZE_IN, SIZE_OUT, HEADS, 0.3, 0.2),
    "attention with a mapped residual": lambda: GraphAttention(SIZE_IN, SIZE_OUT, HEADS, 0.3, 0.2, True),
    "attention with a plain residual": lambda: GraphAttention(SIZE_IN, SIZE_IN, 5, residual=True),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_plain_torch_gives_the_numbers_of_dgl(
    name: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same first weights under the same seed, outputs and gradients, with dropout too."""
    pytest.importorskip("dgl")
    found = []
    for library in (backend.dgl, None):
        monkeypatch.setattr(backend, "dgl", library)
        torch.manual_seed(3)
        layer = LAYERS[name]().train(training)
        features = torch.randn(N_NODES, SIZE_IN, requires_grad=True)
        out = layer(graph_with_loops(SOURCE, TARGET, N_NODES), features)
        weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
        gradients = torch.autograd.grad((out * weights).sum(), [features, *layer.parameters()])
        found.append((layer.state_dict(), out, gradients))
    (weights, out, gradients), (own_weights, own_out, own_gradients) = found
    assert {k: v for k, v in weights.items() if v is not None}.keys() == own_weights.keys()
    assert all(torch.equal(weights[key], value) for key, value in own_weights.items())
    torch.testing.assert_close(own_out, out, rtol=1e-5, atol=1e-6)
    for own, theirs in zip(own_gradients, gradients, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("GraphConv", SIZE_OUT), ("GraphConv", 2), ("GINConv", SIZE_OUT)])
def test_layers_of_drugs_give_the_numbers_of_dgl(name: str, size: int) -> None:
    dgl = pytest.importorskip("dgl")
    from dgl.nn import pytorch as layers

    torch.manual_seed(3)
    ours = getattr(plain, name)(SIZE_IN, size)
    torch.manual_seed(3)
    if name == "GINConv":
        network = torch.nn.Sequential(
            torch.nn.Linear(SIZE_IN, size), torch.nn.ReLU(), torch.nn.Linear(size, size)
        )
        theirs = layers.GINConv(network, "sum")
    else:
        theirs = layers.GraphConv(SIZE_IN, size, norm="both", allow_zero_in_degree=True)
    ends = torch.from_numpy(SOURCE), torch.from_numpy(TARGET)
    graphs = plain.Graph(*ends, N_NODES), dgl.graph(ends, num_nodes=N_NODES)
    found = []
    for layer, graph in zip((ours, theirs), graphs, strict=True):
        features = torch.randn(N_NODES, SIZE_IN, generator=torch.Generator().manual_seed(0)).requires_grad_()
        out = layer(graph, features)
        weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
        found.append([out, *torch.autograd.grad((out * weights).sum(), [features, *layer.parameters()])])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_maximum_and_mean_of_each_graph_and_the_gradient_with_ties() -> None:
    features = torch.relu(torch.randn(10, 6, generator=torch.Generator().manual_seed(0))).requires_grad_()
    parts = torch.split(features, [3, 1, 6])
    weights = torch.arange(18.0).view(3, 6)
    largest = plain.max_by_graph(torch.tensor([3, 1, 6]), features)
    assert torch.equal(largest, torch.stack([part.amax(0) for part in parts]))
    gradient, first = torch.autograd.grad((largest * weights).sum(), features)[0], torch.zeros(10, 6)
    for start, part, row in zip((0, 3, 4), parts, weights, strict=True):
        first[start + part.argmax(0), torch.arange(6)] = row
    assert torch.equal(gradient, first)
    found = plain.mean_by_graph(torch.tensor([3, 1, 6]), features)
    torch.testing.assert_close(found, torch.stack([part.mean(0) for part in parts]))


def test_gene_embeddings_without_dgl(planted: GeneNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dgl")
    settings = GraphMAESettings(dim=8, hidden=8, heads=2, features=8, epochs=5)
    with_dgl, _ = embed_genes(planted, settings)
    monkeypatch.setattr(backend, "dgl", None)
    without, _ = embed_genes(planted, settings)
    torch.testing.assert_close(without, with_dgl, rtol=1e-3, atol=1e-4)


def test_without_dgl_the_other_back_end_is_chosen() -> None:
    code = (
        "import sys; sys.modules['dgl'] = None; import numpy as np; from celllm.graph import backend, drugs; "
        "print(type(backend.graph_with_loops(np.array([0]), np.array([1]), 2)).__module__)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "celllm.graph.plain\n"
