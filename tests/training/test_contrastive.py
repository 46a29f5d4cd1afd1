"""Gradients of divide-and-conquer against end-to-end, in float64 with dropout on."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from celllm.training.contrastive import (
    RandomState,
    ReplayError,
    divide_and_conquer,
    end_to_end,
    info_nce,
)

N_ROWS, DIM = 11, 6


class RowDropout(nn.Module):
    """Dropout whose mask depends on the row and the view alone, so that any chunking can be replayed."""

    def __init__(self) -> None:
        super().__init__()
        masks = torch.rand(2, N_ROWS, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        self.register_buffer("masks", (masks > 0.3) / 0.7)

    def forward(self, x: Tensor, rows: Tensor, view: int) -> Tensor:
        return x * self.masks[view, rows]


class Tower(nn.Module):
    """Two layers with dropout between, in float64."""

    def __init__(self, n_in: int = DIM) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner = nn.Linear(n_in, 16, dtype=torch.float64)
        self.dropout = nn.Dropout(0.3)
        self.row_dropout = RowDropout()
        self.outer = nn.Linear(16, 5, dtype=torch.float64)
        self.n_forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_forwards += 1
        return self.outer(self.dropout(torch.tanh(self.inner(x))))

    def view(self, number: int) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
        def encode(chunk: tuple[Tensor, Tensor]) -> Tensor:
            x, rows = chunk
            return self.outer(self.row_dropout(torch.tanh(self.inner(x)), rows, number))

        return encode


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N_ROWS, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def gradients(module: nn.Module) -> Tensor:
    grads = torch.cat([p.grad.flatten() for p in module.parameters()])
    module.zero_grad()
    return grads


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def cross(h: Tensor, h_plus: Tensor) -> Tensor:
    return info_nce(h, h_plus, temperature=0.2)


def test_info_nce_is_the_papers_formula() -> None:
    h, h_plus = torch.randn(2, 4, 3, dtype=torch.float64)
    expected = 0.0
    for i in range(4):
        similarity = [torch.cosine_similarity(h[i], h_plus[j], dim=0) / 0.05 for j in range(4)]
        expected -= (similarity[i].exp() / sum(s.exp() for s in similarity)).log() / 4
    assert info_nce(h, h_plus).item() == pytest.approx(expected.item(), rel=1e-12)


def test_info_nce_compares_half_precision_in_float32() -> None:
    h, h_plus = torch.randn(2, 8, 16).to(torch.bfloat16)
    assert info_nce(h, h_plus).dtype == torch.float32
    assert torch.equal(info_nce(h, h_plus), info_nce(h.float(), h_plus.float()))


@pytest.mark.parametrize("size", [1, 2, 4, 10, N_ROWS], ids="chunk{}".format)
@pytest.mark.parametrize("keep_graphs", [0, 1, 3, 100], ids="keep{}".format)
def test_gradient_of_one_forward_over_the_whole_batch(x: Tensor, size: int, keep_graphs: int) -> None:
    tower = Tower()
    views = [tower.view(0), tower.view(1)]
    rows = torch.arange(N_ROWS)
    loss = cross(*(view((x, rows)) for view in views))
    loss.backward()
    expected = gradients(tower)
    chunks = list(zip(x.split(size), rows.split(size), strict=True))
    losses = divide_and_conquer(views, chunks, cross, keep_graphs=keep_graphs, watch=tower)
    assert relative_error(gradients(tower), expected) < 1e-12
    assert losses["contrast"].item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("sizes", [[1] * 11, [4, 4, 3], [10, 1], [11], [2, 7, 1, 1]])
@pytest.mark.parametrize("keep_graphs", [None, 0, 2])
def test_replayed_dropout_gives_the_end_to_end_gradient(
    x: Tensor, sizes: list[int], keep_graphs: int | None
) -> None:
    tower, chunks = Tower(), x.split(sizes)
    torch.manual_seed(3)
    expected_losses = end_to_end(tower, chunks, cross)
    expected, next_number = gradients(tower), torch.rand(1)
    torch.manual_seed(3)
    losses = divide_and_conquer(tower, chunks, cross, keep_graphs=keep_graphs)
    assert relative_error(gradients(tower), expected) < 1e-10
    assert losses["contrast"].item() == pytest.approx(expected_losses["contrast"].item(), rel=1e-12)
    assert torch.equal(torch.rand(1), next_number), "the random state must go on as after one forward"


def test_without_replay_the_gradient_would_be_wrong(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: with other dropout masks in the second pass the guard speaks up."""
    monkeypatch.setattr(RandomState, "restore", lambda self: None)
    with pytest.raises(ReplayError, match="other embeddings"):
        divide_and_conquer(Tower(), x.split(4), cross)


def test_two_towers_with_inputs_of_their_own(x: Tensor) -> None:
    images, texts = Tower(), Tower(3)
    views = [lambda pair: images(pair[0]), lambda pair: texts(pair[1])]
    chunks = list(zip(x.split(3), x[:, :3].split(3), strict=True))
    torch.manual_seed(0)
    end_to_end(views, chunks, cross)
    expected = torch.cat([gradients(images), gradients(texts)])
    torch.manual_seed(0)
    divide_and_conquer(views, chunks, cross, watch=[images, texts])
    assert relative_error(torch.cat([gradients(images), gradients(texts)]), expected) < 1e-10


@pytest.mark.parametrize("keep_graphs", [0, 1, 3])
def test_extra_losses_ride_on_the_second_pass(x: Tensor, keep_graphs: int) -> None:
    tower = Tower()

    def encode(chunk: Tensor) -> tuple[Tensor, Tensor]:
        h = tower(chunk)
        return h, h.square()

    def extra(chunk: Tensor, squares: Tensor) -> dict[str, Tensor]:
        return {"size": squares.sum() / N_ROWS, "tilt": (squares[:, 0] * chunk[:, 0]).sum()}

    torch.manual_seed(3)
    expected_losses = end_to_end(encode, x.split(4), cross, extra=extra)
    expected = gradients(tower)
    torch.manual_seed(3)
    losses = divide_and_conquer(encode, x.split(4), cross, extra=extra, keep_graphs=keep_graphs, watch=tower)
    assert relative_error(gradients(tower), expected) < 1e-10
    assert losses.keys() == {"contrast", "size", "tilt"}
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected_losses[name].item(), rel=1e-12)
        assert not value.requires_grad


def test_scale_multiplies_gradients_and_leaves_losses(x: Tensor) -> None:
    tower = Tower()
    torch.manual_seed(3)
    plain = divide_and_conquer(tower, x.split(4), cross)
    expected = 1024 * gradients(tower)
    torch.manual_seed(3)
    scaled = divide_and_conquer(tower, x.split(4), cross, scale=lambda value: 1024 * value)
    assert relative_error(gradients(tower), expected) < 1e-12
    assert torch.equal(plain["contrast"], scaled["contrast"])


@pytest.mark.parametrize(
    ("n_chunks", "keep_graphs", "n_forwards"),
    [(1, None, 2), (1, 0, 4), (3, 0, 12), (3, None, 11), (3, 4, 8), (3, 6, 6), (3, 100, 6)],
)
def test_number_of_forwards(x: Tensor, n_chunks: int, keep_graphs: int | None, n_forwards: int) -> None:
    tower = Tower()
    divide_and_conquer(tower, x[:9].split(9 // n_chunks), cross, keep_graphs=keep_graphs)
    assert tower.n_forwards == n_forwards


def test_gradients_add_up_over_calls(x: Tensor) -> None:
    tower = Tower().eval()
    divide_and_conquer(tower, x.split(4), cross)
    once = torch.cat([p.grad.flatten().clone() for p in tower.parameters()])
    divide_and_conquer(tower, x.split(4), cross)
    assert relative_error(gradients(tower), 2 * once) < 1e-12


def test_sync_happens_in_the_last_pass_only(x: Tensor) -> None:
    log: list[str] = []
    tower = Tower()
    tower.register_forward_hook(lambda *_: log.append("forward" if torch.is_grad_enabled() else "embed"))

    class NoSync:
        def __enter__(self) -> None:
            log.append("(")

        def __exit__(self, *_: object) -> None:
            log.append(")")

    divide_and_conquer(tower, x.split(6), cross, keep_graphs=1, no_sync=NoSync)
    assert "".join(word[0] for word in log) == "(e)(e)(e)(f)" + "()" + "()(f)(f)f"  # passes, the loss, passes


def tracked_bytes(chunks: tuple[Tensor, ...], keep_graphs: int | None) -> int:
    """Largest number of bytes that autograd had saved at any one time."""
    tower, alive, peak = Tower(), 0, 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, peak
            self.tensor = tensor
            alive += tensor.nbytes
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        divide_and_conquer(tower, chunks, lambda h, h_plus: h.sum() + h_plus.sum(), keep_graphs=keep_graphs)
    assert alive == 0
    return peak


def test_memory_is_bounded_by_the_chunk() -> None:
    x = torch.randn(64 * 8, DIM, dtype=torch.float64)
    one = tracked_bytes((x[:8],), keep_graphs=1)
    assert tracked_bytes(x.split(8), keep_graphs=1) == one
    assert tracked_bytes(x.split(8), keep_graphs=4) > 2 * one
    assert tracked_bytes(x.split(8), keep_graphs=10_000) > 30 * one


def test_batch_normalisation_is_refused(x: Tensor) -> None:
    module = nn.Sequential(nn.Linear(DIM, 4), nn.BatchNorm1d(4)).double()
    with pytest.raises(ReplayError, match=r"buffer Sequential\.1\.num_batches_tracked was changed"):
        divide_and_conquer(module, x.split(4), cross)


class Redrawing(nn.Module):
    """Random features that are redrawn within ``forward``, as performer-pytorch does."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.generator = generator
        self.register_buffer("features", torch.randn(DIM, 4, dtype=torch.float64))
        self.weight = nn.Parameter(torch.ones(4, dtype=torch.float64))

    def encode(self, x: Tensor) -> Tensor:
        if self.generator is None:
            self.features.copy_(torch.randn(DIM, 4))
            return x @ self.features * self.weight
        return x @ torch.randn(DIM, 4, generator=self.generator, dtype=torch.float64) * self.weight


def test_a_redraw_within_forward_is_refused(x: Tensor) -> None:
    with pytest.raises(ReplayError, match=r"Redrawing\.features"):
        divide_and_conquer(Redrawing().encode, x.split(4), cross)


def test_a_generator_of_its_own_is_refused(x: Tensor) -> None:
    with pytest.raises(ReplayError, match="outside torch's default generators"):
        divide_and_conquer(Redrawing(torch.Generator()).encode, x.split(4), cross)


@pytest.mark.parametrize("counts_calls", [True, False])
def test_performer_pytorch_is_refused_while_it_counts_its_calls(counts_calls: bool) -> None:
    performer = pytest.importorskip("performer_pytorch").Performer(
        dim=8, depth=1, heads=2, dim_head=4, nb_features=6, auto_check_redraw=counts_calls
    )
    refused = pytest.raises(ReplayError, match=r"buffer Performer\.") if counts_calls else nullcontext()
    with refused:
        divide_and_conquer(
            lambda x: performer(x).mean(1), torch.randn(6, 5, 8).split(2), cross, watch=performer
        )
