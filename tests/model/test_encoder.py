import pytest
import torch
from torch import Tensor

from celllm.errors import UserError
from celllm.model.encoder import Encoder, count_parameters, forward_flops
from celllm.model.settings import SIZES, EncoderConfig, sized

CONFIG = EncoderConfig(n_genes=40, dim=32, depth=3, heads=2, dim_head=16, dropout=0.0)


def encoder(**changes: object) -> Encoder:
    torch.manual_seed(0)
    return Encoder(CONFIG.changed(**changes), torch.randn(40, 32))


def cells(lengths: list[int], width: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Random cells with [CLS] first, padded to ``width``; each cell is the same whatever the width."""
    width = width or max(lengths)
    gene_ids = torch.full((len(lengths), width), 41)
    bins = torch.full_like(gene_ids, 7)
    for i, n in enumerate(lengths):
        draw = torch.Generator().manual_seed(i)
        gene_ids[i, 1:n] = torch.randperm(40, generator=draw)[: n - 1]
        bins[i, 1:n] = torch.randint(0, 6, (n - 1,), generator=draw)
    gene_ids[:, 0], bins[:, 0] = 40, 6
    return gene_ids, bins, torch.arange(width) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("kind", ["favor", "softmax"])
def test_a_cell_does_not_depend_on_padding_or_on_its_batch(kind: str) -> None:
    model = encoder(attention=kind)
    lengths = [30, 5, 17, 1]
    batch = model(*cells(lengths))
    wide = model(*cells(lengths, width=400))
    for i, n in enumerate(lengths):
        gene_ids, bins, mask = cells(lengths)
        alone = model(gene_ids[i : i + 1, :n], bins[i : i + 1, :n], None)[0]
        assert (batch[i, :n] - alone).abs().max() < 1e-5
        assert (wide[i, :n] - alone).abs().max() < 1e-5
        assert mask[i].sum() == n


def test_equals_performer_pytorch_with_the_same_weights() -> None:
    from performer_pytorch import Performer

    theirs = Performer(dim=32, depth=3, heads=2, dim_head=16, qkv_bias=False)
    model = encoder()
    pairs = zip(model.layers, theirs.net.layers, strict=True)
    with torch.no_grad():
        for ours, (attention, ff) in pairs:
            inner = attention.fn
            qkv = torch.cat([inner.to_q.weight, inner.to_k.weight, inner.to_v.weight])
            ours.attention.to_qkv.weight.copy_(qkv)
            ours.attention.to_out.load_state_dict(inner.to_out.state_dict())
            ours.attention.projection.copy_(inner.fast_attention.projection_matrix)
            ours.attention_norm.load_state_dict(attention.norm.state_dict())
            ours.ff_norm.load_state_dict(ff.norm.state_dict())
            ours.ff.w1.load_state_dict(ff.fn.fn.w1.state_dict())
            ours.ff.w2.load_state_dict(ff.fn.fn.w2.state_dict())
    x = torch.randn(2, 60, 32)
    assert (model.run_layers(x, None) - theirs(x)).abs().max() < 1e-5


def test_layers_can_be_run_in_parts() -> None:
    model = encoder().eval()
    gene_ids, bins, mask = cells([9, 6])
    below = model.run_layers(model.embed(gene_ids, bins), mask, 0, 2)
    assert torch.equal(model.norm(model.run_layers(below, mask, 2)), model(gene_ids, bins, mask))


def test_no_cell_is_no_row() -> None:
    nothing = torch.zeros(0, 5, dtype=torch.long)
    assert encoder()(nothing, nothing, nothing.bool()).shape == (0, 5, 32)


def test_float64_runs_throughout() -> None:
    model = encoder().double()
    out = model(*cells([9, 6]))
    assert out.dtype == torch.float64
    single = encoder()(*cells([9, 6]))
    assert (out - single)[cells([9, 6])[2]].abs().max() < 1e-4


def test_embedding_is_gene_plus_expression_and_cls_has_its_own_row() -> None:
    model = encoder()
    table, expression = model.embedding.genes.weight, model.embedding.expression.weight
    got = model.embed(torch.tensor([[40, 3, 41]]), torch.tensor([[6, 2, 7]]))[0]
    assert torch.equal(got[0], model.embedding.cls + expression[6])
    assert torch.equal(got[1], table[3] + expression[2])
    assert torch.equal(got[2], expression[7])


def test_the_vector_of_cls_can_be_ones_that_are_not_trained() -> None:
    config = CONFIG.changed(cls_vector="ones")
    model = Encoder(config, torch.randn(40, 32))
    model(*cells([9, 6])).square().sum().backward()
    assert torch.equal(model.embedding.cls, torch.ones(32)) and model.embedding.cls.grad is None
    assert count_parameters(Encoder(CONFIG, torch.randn(40, 32)))[1] - count_parameters(model)[1] == 32
    got = model.eval().embed(torch.tensor([[40]]), torch.tensor([[6]]))[0, 0]
    assert torch.equal(got, 1 + model.embedding.expression.weight[6])


def test_given_gene_embeddings_are_frozen_and_a_table_of_its_own_is_trained() -> None:
    frozen, own = encoder(), Encoder(CONFIG)
    for model, trained in ((frozen, False), (own, True)):
        model(*cells([9, 6])).square().sum().backward()
        gradient = model.embedding.genes.weight.grad
        assert (gradient is not None) == trained
        assert model.embedding.cls.grad.abs().sum() > 0
    assert own.embedding.genes.weight.grad[40].abs().sum() == 0
    assert count_parameters(own)[1] - count_parameters(frozen)[1] == 41 * 32


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for kept in (False, True):
        model = encoder(dropout=0.1).train()
        model.gradient_checkpointing = kept
        torch.manual_seed(3)
        model(*cells([9, 6])).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropout_stands_in_its_four_places() -> None:
    model = encoder(dropout=0.1)
    assert sum(isinstance(m, torch.nn.Dropout) and m.p == 0.1 for m in model.modules()) == 1 + 2 * 3


def test_redraw_changes_every_layer_and_is_repeatable() -> None:
    model = encoder()
    before = [layer.attention.projection.clone() for layer in model.layers]
    model.redraw_features(torch.Generator().manual_seed(1))
    after = [layer.attention.projection.clone() for layer in model.layers]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(after[0], after[1])
    model.redraw_features(torch.Generator().manual_seed(1))
    assert all(
        torch.equal(a, layer.attention.projection) for a, layer in zip(after, model.layers, strict=True)
    )


def test_cls_attention_of_a_layer() -> None:
    weights = encoder(dropout=0.1).eval().cls_attention(*cells([9, 6]), layer=1)
    assert weights.shape == (2, 2, 9)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 2), atol=1e-6)
    with pytest.raises(UserError, match="released"):
        encoder(attention="released").cls_attention(*cells([9, 6]))


@pytest.mark.parametrize(("name", "millions"), [("8m", 8), ("25m", 25), ("50m", 50)])
def test_named_sizes_have_the_parameters_of_their_names(name: str, millions: int) -> None:
    config = sized(name, 19379)
    total, trained = count_parameters(Encoder(config, torch.zeros(19379, config.dim)))
    assert abs(total / (millions * 1e6) - 1) < 0.05
    assert trained < total - 19379 * config.dim
    assert name != "50m" or total == 51_922_432


def test_sizes_take_changes_and_unknown_names_are_told() -> None:
    assert sized("8m", 100, attention="softmax", depth=2).depth == 2
    assert SIZES["8m"]["depth"] == 4
    with pytest.raises(UserError, match=r"encoder size '7m': expected one of 8m, 25m, 50m"):
        sized("7m", 100)


def test_features_are_those_of_performer_pytorch() -> None:
    assert EncoderConfig(n_genes=5, dim_head=64).features == 266
    assert EncoderConfig(n_genes=5, dim_head=64, n_features=32).features == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "fast"}, "attention: expected 'favor', 'softmax' or 'released', got \"fast\""),
        ({"dropout": 1.0}, "dropout: expected less than 1"),
        ({"depth": 0}, "depth: expected at least 1, got 0"),
        ({"n_features": 0}, "n_features: expected at least 1"),
    ],
)
def test_wrong_shapes_are_told_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        CONFIG.changed(**change)
    assert "\n" not in str(caught.value)


def test_a_gene_table_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected 40 genes x 32 dimensions, found 39 x 32"):
        Encoder(CONFIG, torch.zeros(39, 32))


def test_counted_flops_are_those_that_pytorch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = encoder().eval()
    with FlopCounterMode(display=False) as counter:
        model(*cells([30]))
    # The column of ones that sums up the normaliser makes the sums a little wider than counted.
    assert counter.get_total_flops() == pytest.approx(forward_flops(model.config, 30), rel=0.02)
    softmax = CONFIG.changed(attention="softmax")
    longer = forward_flops(softmax, 60) - 2 * forward_flops(softmax, 30)
    assert longer == CONFIG.depth * CONFIG.heads * (4 * 60**2 - 2 * 4 * 30**2) * CONFIG.dim_head
