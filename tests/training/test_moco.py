import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from celllm.training.moco import MomentumContrast


def make(queue_length: int = 5, size: int = 3, momentum: float = 0.9) -> MomentumContrast:
    return MomentumContrast(
        nn.Linear(4, size),
        size,
        queue_length=queue_length,
        momentum=momentum,
        temperature=0.2,
        generator=torch.Generator().manual_seed(0),
    )


def directions(*angles: float) -> Tensor:
    return torch.tensor([[math.cos(a), math.sin(a), 0.0] for a in angles])


def test_the_queue_starts_as_seeded_random_directions() -> None:
    one, two = make().queue, make().queue
    assert torch.equal(one, two)
    assert torch.allclose(one.norm(dim=1), torch.ones(5))


def test_the_oldest_keys_leave_first() -> None:
    moco = make()
    first = moco.queue.clone()
    moco.enqueue(2 * directions(0.1, 0.2, 0.3))
    assert torch.allclose(moco.queue[:3], directions(0.1, 0.2, 0.3))
    assert torch.equal(moco.queue[3:], first[3:])
    moco.enqueue(directions(0.4, 0.5, 0.6))
    assert torch.allclose(moco.queue, directions(0.6, 0.2, 0.3, 0.4, 0.5))
    assert moco.position == 1


def test_of_more_keys_than_places_the_last_remain() -> None:
    moco = make()
    moco.enqueue(directions(0.0))
    moco.enqueue(directions(*(0.1 * i for i in range(1, 8))))
    assert torch.allclose(moco.queue, directions(0.7, 0.3, 0.4, 0.5, 0.6))


def test_loss_is_that_of_he_et_al() -> None:
    moco = make()
    queries, keys = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    expected = 0.0
    for query, key in zip(queries, keys, strict=True):
        positive = math.exp(torch.cosine_similarity(query, key, dim=0).item() / 0.2)
        negatives = (torch.cosine_similarity(query[None], moco.queue).double() / 0.2).exp().sum().item()
        expected -= math.log(positive / (positive + negatives))
    assert moco.loss(queries, keys).item() == pytest.approx(expected, rel=1e-5)


def test_chunks_add_up_to_the_batch() -> None:
    moco = make()
    weight = torch.randn(4, 3, requires_grad=True)
    x, keys = torch.randn(9, 4), torch.randn(9, 3)
    moco.loss(x @ weight, keys).backward()
    whole, weight.grad = weight.grad, None
    for part, part_keys in zip(x.split(4), keys.split(4), strict=True):
        moco.loss(part @ weight, part_keys).backward()
    assert torch.allclose(weight.grad, whole, rtol=1e-5)


def test_keys_follow_slowly_and_are_not_trained() -> None:
    moco = make(momentum=0.9)
    model = nn.Linear(4, 3)
    before = moco.model.weight.clone()
    assert torch.equal(before, moco.model.weight)
    moco.follow(model)
    assert torch.allclose(moco.model.weight, 0.9 * before + 0.1 * model.weight)
    assert not any(p.requires_grad for p in moco.parameters())
    queries = torch.randn(2, 3, requires_grad=True)
    moco.loss(queries, moco.model(torch.randn(2, 4))).backward()
    assert moco.model.weight.grad is None
    assert functional.cosine_similarity(queries.grad, queries).abs().max() < 1e-6


def test_random_features_are_those_of_the_model() -> None:
    model = nn.Linear(4, 3)
    model.register_buffer("projection", torch.zeros(2))
    moco = MomentumContrast(model, 3, queue_length=2)
    model.projection += 5
    moco.share_buffers(model)
    assert moco.model.projection.tolist() == [5, 5]
