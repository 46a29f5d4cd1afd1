import torch
from torch import nn

from celllm.model.heads import (
    ClassificationHead,
    ContrastPooling,
    GenePooling,
    MaskedExpressionHead,
    TumourHead,
    cell_embedding,
    feed_forward,
)

GENE_IDS = torch.tensor([[5, 0, 3, 4], [5, 2, 6, 6]])  # five genes, 5 is [CLS], 6 is [PAD]
MASK = GENE_IDS != 6


def states(dim: int = 4) -> torch.Tensor:
    return torch.randn(2, 4, dim, generator=torch.Generator().manual_seed(0))


def test_gene_pooling_puts_each_gene_at_its_place() -> None:
    pooling = GenePooling(5, 4)
    numbers = states() @ pooling.to_number.weight[0] + pooling.to_number.bias
    expected = torch.zeros(2, 6)
    expected[0, [5, 0, 3, 4]] = numbers[0]
    expected[1, [5, 2]] = numbers[1, :2]
    assert torch.allclose(pooling(states(), GENE_IDS, MASK), expected)


def test_gene_pooling_is_the_convolution_of_the_paper() -> None:
    pooling, convolution = GenePooling(5, 4), nn.Conv2d(1, 1, (1, 4))
    with torch.no_grad():
        pooling.to_number.weight.copy_(convolution.weight.flatten()[None])
        pooling.to_number.bias.copy_(convolution.bias)
    numbers = convolution(states()[:, None])[:, 0, :, 0]
    assert torch.allclose(pooling(states(), GENE_IDS, MASK)[0, GENE_IDS[0]], numbers[0], atol=1e-6)


def test_relu_of_gene_pooling_comes_before_the_places() -> None:
    plain, relu = GenePooling(5, 4), GenePooling(5, 4, "relu")
    relu.load_state_dict(plain.state_dict())
    found = plain(states(), GENE_IDS, MASK)
    assert (found < 0).any()
    assert torch.equal(relu(states(), GENE_IDS, MASK), found.relu())


def test_pads_reach_no_head() -> None:
    far = torch.where(MASK[..., None], states(), 1e9)
    for head in (GenePooling(5, 4), ContrastPooling(5, 4, 3), ClassificationHead(5, 4, (8, 2)).eval()):
        assert torch.equal(head(far, GENE_IDS, MASK), head(states(), GENE_IDS, MASK))
    assert torch.equal(cell_embedding(far, MASK), cell_embedding(states(), MASK))


def test_heads_have_the_sizes_of_table_f1() -> None:
    head = ClassificationHead(19379, 512, (512, 128, 11))
    shapes = [tuple(p.shape) for p in head.parameters()]
    assert shapes == [(1, 512), (1,), (512, 19380), (512,), (128, 512), (128,), (11, 128), (11,)]
    assert ContrastPooling(19379, 512).linear.weight.shape == (512, 19380)


def test_feed_forward_has_activation_and_dropout_between_layers_only() -> None:
    kinds = [type(m) for m in feed_forward([3, 4, 2], "leaky_relu", 0.2)]
    assert kinds == [nn.Linear, nn.LeakyReLU, nn.Dropout, nn.Linear]
    assert [type(m) for m in feed_forward([3, 2], "elu", last=True)] == [nn.Linear, nn.ELU, nn.Dropout]


def test_masked_expression_head_takes_the_chosen_tokens_in_order() -> None:
    head, chosen = MaskedExpressionHead(4, 8), torch.tensor([[0, 1, 0, 1], [0, 1, 0, 0]]).bool()
    expected = head.linear(torch.stack([states()[0, 1], states()[0, 3], states()[1, 1]]))
    assert torch.allclose(head(states(), chosen), expected)


def test_tumour_head_reads_cls() -> None:
    head = TumourHead(4)
    assert torch.equal(head(states()), head.linear(states()[:, 0]))


def test_cell_embedding_is_the_mean_over_genes_or_cls() -> None:
    x = states()
    assert torch.allclose(cell_embedding(x, MASK)[0], x[0, 1:].mean(0))
    assert torch.allclose(cell_embedding(x, MASK)[1], x[1, 1])
    assert torch.equal(cell_embedding(x, MASK, "cls"), x[:, 0])
    only_cls = torch.tensor([[True, False, False, False]])
    assert torch.equal(cell_embedding(x[:1], only_cls), torch.zeros(1, 4))
