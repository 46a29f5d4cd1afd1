"""Forms that encoders, batches and losses of other people have; gradients in float64 to 1e-10."""

import dataclasses
import functools
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from celllm.training.contrastive import (
    ReplayError,
    accumulate,
    divide_and_conquer,
    end_to_end,
    info_nce,
    split,
)
from tests.training.test_contrastive import DIM, N_ROWS, Tower, cross, gradients, relative_error


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N_ROWS, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def same_gradients(
    trained: nn.Module, encode: Any, chunks: Any, loss: Any, keep_graphs: int | None, **how: Any
) -> Tensor:
    """The gradient of divide-and-conquer, after a comparison with that of end-to-end."""
    torch.manual_seed(3)
    end_to_end(encode, chunks, loss, **how)
    expected = gradients(trained)
    torch.manual_seed(3)
    divide_and_conquer(encode, chunks, loss, keep_graphs=keep_graphs, **how)
    got = gradients(trained)
    assert relative_error(got, expected) < 1e-10
    return got


KEEP = pytest.mark.parametrize("keep_graphs", [None, 0, 3, 7], ids="keep{}".format)


# Parameters inside the loss


class WithTemperature(nn.Module):
    """Two towers and a temperature; the loss has a matrix of its own as well."""

    def __init__(self, frozen: str = "") -> None:
        super().__init__()
        self.one, self.other = Tower(), Tower()
        self.logit_scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.map = nn.Linear(5, 5, dtype=torch.float64)
        if frozen:
            self.get_submodule(frozen).requires_grad_(False)

    def loss(self, h: Tensor, h_plus: Tensor) -> Tensor:
        return info_nce(self.map(h), h_plus, (-self.logit_scale).exp())


@KEEP
def test_parameters_of_the_loss_get_their_gradient_once(x: Tensor, keep_graphs: int | None) -> None:
    model = WithTemperature()
    same_gradients(model, [model.one, model.other], x.split(3), model.loss, keep_graphs)
    divide_and_conquer([model.one, model.other], x.split(3), model.loss, keep_graphs=keep_graphs)
    assert model.logit_scale.grad is not None and abs(model.logit_scale.grad) > 1e-3


def test_scale_reaches_the_parameters_of_the_loss(x: Tensor) -> None:
    model = WithTemperature().eval()
    for factor in (1, 1024):
        divide_and_conquer(
            [model.one, model.other], x.split(3), model.loss, scale=lambda value, f=factor: f * value
        )
        if factor == 1:
            plain = gradients(model)
    assert relative_error(gradients(model), 1024 * plain) < 1e-12


# Frozen towers


@KEEP
@pytest.mark.parametrize("frozen", ["one", "other"])
def test_a_frozen_tower(x: Tensor, frozen: str, keep_graphs: int | None) -> None:
    model = WithTemperature(frozen)
    views = [model.one, model.other]
    trained = nn.ModuleList([model.map, model.other if frozen == "one" else model.one])
    same_gradients(trained, views, x.split(3), model.loss, keep_graphs)
    assert all(p.grad is None for p in model.get_submodule(frozen).parameters())


def test_both_towers_frozen_and_the_temperature_learnt(x: Tensor) -> None:
    model = WithTemperature()
    model.one.requires_grad_(False)
    model.other.requires_grad_(False)
    same_gradients(model.map, [model.one, model.other], x.split(3), model.loss, None)


def test_a_frozen_tower_under_no_grad_with_extra_losses(x: Tensor) -> None:
    model = WithTemperature()

    @torch.no_grad()
    def frozen(chunk: Tensor) -> Tensor:
        return model.other(chunk)

    def extra(chunk: Tensor, outputs: Any) -> dict[str, Tensor]:
        return {"constant": chunk.sum()}  # has no gradient

    model.other.eval()
    trained = nn.ModuleList([model.map, model.one])
    same_gradients(trained, [model.one, frozen], x.split(3), model.loss, None, extra=extra)


def test_a_loss_that_leaves_a_view_out(x: Tensor) -> None:
    one, other = Tower(), Tower()
    divide_and_conquer([one, other], x.split(3), lambda h, _: h.square().sum())
    assert gradients(one).norm() > 0
    assert not any(p.grad is not None and p.grad.any() for p in other.parameters())


# Every encoder's last pass synchronises


@pytest.mark.parametrize(("keep_graphs", "n_views"), [(0, 2), (1, 2), (3, 2), (7, 2), (2, 3)])
def test_the_last_pass_of_each_encoder_runs_forward_and_backward_in_sync(
    x: Tensor, keep_graphs: int, n_views: int
) -> None:
    towers = [Tower() for _ in range(n_views)]
    synchronised, inside = [], [0]

    class NoSync:
        def __enter__(self) -> None:
            inside[0] += 1

        def __exit__(self, *_: object) -> None:
            inside[0] -= 1

    for number, tower in enumerate(towers):
        tower.register_forward_hook(
            lambda *_, n=number: synchronised.append(n) if not inside[0] else None  # type: ignore[misc]
        )
    divide_and_conquer(
        towers,
        x.split(3),
        lambda *h: sum(a.square().sum() for a in h),
        keep_graphs=keep_graphs,
        no_sync=NoSync,
    )
    assert sorted(synchronised) == list(range(n_views))


# What encoders return


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """As in transformers: names as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass
class Output:
    states: Tensor
    embedding: Tensor
    note: str = "none"


@dataclasses.dataclass(frozen=True)
class Two:
    a: Tensor
    b: Tensor


Named = namedtuple("Named", ["states", "embedding"])


class Plain:
    def __init__(self, a: Tensor) -> None:
        self.a = a


def three(h: Tensor) -> Tensor:
    return h.unsqueeze(1).repeat(1, 4, 1)


FORMS: dict[str, tuple[Callable[[Tensor], Any], Any]] = {
    "dict": (lambda h: {"states": three(h), "embedding": h, "loss": None}, None),
    "dict, two fields": (lambda h: {"logits": 2 * h, "embedding": h}, "embedding"),
    "model output": (lambda h: ModelOutput(last_hidden_state=three(h), pooler_output=h), None),
    "model output by name": (lambda h: ModelOutput(last_hidden_state=h, pooler_output=h), "pooler_output"),
    "dataclass": (lambda h: Output(three(h), h), None),
    "dataclass, two fields": (lambda h: Two(2 * h, h), "b"),
    "named tuple": (lambda h: Named(three(h), h), None),
    "user dict": (lambda h: UserDict({"embedding": h}), None),
    "object": (lambda h: Plain(h), "a"),
    "function": (lambda h: {"last_hidden_state": three(h)}, lambda output: output["last_hidden_state"][:, 0]),
    "tuple": (lambda h: (h, three(h)), None),
    "longer tuple": (lambda h: (three(h), h, None), lambda output: output[1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_output(x: Tensor, form: str) -> None:
    make, embedding = FORMS[form]
    tower = Tower()
    expected = same_gradients(tower, tower, x.split(4), cross, None)
    got = same_gradients(
        tower, lambda chunk: make(tower(chunk)), x.split(4), cross, None, embedding=embedding
    )
    assert relative_error(got, expected) < 1e-10


def test_extra_gets_the_whole_record(x: Tensor) -> None:
    tower = Tower()

    def extra(chunk: Tensor, output: Output) -> dict[str, Tensor]:
        return {"size": output.states.square().sum()}

    losses = divide_and_conquer(
        lambda chunk: Output(three(tower(chunk)), tower(chunk)), x.split(4), cross, extra=extra
    )
    assert losses["size"] > 0


@pytest.mark.parametrize(
    ("make", "embedding", "said"),
    [
        (lambda h: {"a": h, "b": h}, None, r"a dict with 2 fields of shape \(t, d\) among \['a', 'b'\]"),
        (lambda h: {"a": three(h)}, None, "0 fields"),
        (lambda h: {"a": h}, "h", r"no tensor 'h'; it has \['a'\]"),
        (lambda h: (three(h), h, h), None, "tuple with 2 fields"),
        (lambda h: Plain(h), None, "Plain with 0 fields"),
        (lambda h: None, None, "NoneType"),
    ],
)
def test_outputs_without_embeddings(x: Tensor, make: Any, embedding: Any, said: str) -> None:
    tower = Tower()
    with pytest.raises(TypeError, match=said):
        divide_and_conquer(lambda chunk: make(tower(chunk)), x.split(4), cross, embedding=embedding)


# Batches and chunks


@dataclasses.dataclass
class Batch:
    pixels: Tensor
    texts: list[str]
    scale: float = 2.0


BATCHES: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda x: x,
    "array": lambda x: x.numpy(),
    "dict": lambda x: {"pixels": x, "n": 3, "note": "all", "none": None, "zero": torch.tensor(1.0)},
    "ordered dict": lambda x: OrderedDict(pixels=x, mask=x > 0),
    "user dict": lambda x: UserDict({"pixels": x, "texts": [str(i) for i in range(len(x))]}),
    "nested": lambda x: {"image": {"pixels": x}, "text": (x[:, 0], x[:, 1])},
    "dataclass": lambda x: Batch(x, [str(i) for i in range(len(x))]),
    "named tuple": lambda x: Named(x, x[:, 0]),
    "tuple": lambda x: (x, x > 0),
}


def leaves(part: Any) -> list[Any]:
    if isinstance(part, Batch):
        part = (part.pixels, part.texts, part.scale)
    if isinstance(part, Mapping):
        part = tuple(part.values())
    if isinstance(part, tuple):
        return [leaf for one in part for leaf in leaves(one)]
    return [part]


@pytest.mark.parametrize("n", [1, 4, N_ROWS, 100])
@pytest.mark.parametrize("form", BATCHES)
def test_split(x: Tensor, form: str, n: int) -> None:
    batch = BATCHES[form](x)
    chunks = split(batch, n)
    assert len(chunks) == -(-N_ROWS // n)
    assert all(type(chunk) is type(batch) for chunk in chunks)
    for whole, *parts in zip(leaves(batch), *map(leaves, chunks), strict=True):
        if isinstance(whole, Tensor) and whole.ndim:
            assert torch.equal(torch.cat(parts), whole)
        elif isinstance(whole, np.ndarray):
            assert np.array_equal(np.concatenate(parts), whole)
        elif isinstance(whole, list):
            assert [row for part in parts for row in part] == whole
        else:
            assert all(part is whole for part in parts)
    assert leaves(split(batch, 4)[2])[0].shape == (3, DIM)


@pytest.mark.parametrize(
    ("batch", "n", "said"),
    [
        ({"a": torch.zeros(4, 2), "b": torch.zeros(3)}, 2, r"'batch\.a': 4, 'batch\.b': 3"),
        ({"a": torch.zeros(4, 2), "b": {"c": ["x"]}}, 2, r"'batch\.b\.c': 1"),
        (torch.zeros(4), 0, "n = 0"),
        (torch.zeros(0, 4), 2, "expected a batch with rows"),
        ({"a": 1}, 2, "expected a batch with rows"),
    ],
)
def test_batches_that_cannot_be_split(batch: Any, n: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        split(batch, n)


def test_dict_batches(x: Tensor) -> None:
    tower = Tower()
    batch = {"x": x, "rows": torch.arange(N_ROWS)}
    views = [lambda chunk, v=v: tower.view(v)((chunk["x"], chunk["rows"])) for v in (0, 1)]
    expected = same_gradients(tower, views, [batch], cross, 0)
    assert relative_error(same_gradients(tower, views, split(batch, 3), cross, None), expected) < 1e-10


NO_CHUNKS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "generator": (lambda x: (part for part in x.split(4)), r"got a generator; pass list\(\.\.\.\)"),
    "iterator": (lambda x: iter(x.split(4)), r"pass list\(\.\.\.\)"),
    "map": (lambda x: map(torch.clone, x.split(4)), r"pass list\(\.\.\.\)"),
    "data loader": (lambda x: torch.utils.data.DataLoader(list(x)), r"got a DataLoader; pass list\(\.\.\.\)"),
    "dict": (lambda x: {"pixels": x}, r"a dict is one batch; pass split\(batch, n\)"),
    "user dict": (lambda x: UserDict({"pixels": x}), r"a UserDict is one batch"),
    "tensor": (lambda x: x, r"a Tensor is one batch"),
    "array": (lambda x: x.numpy(), r"an? ndarray is one batch"),
    "none": (lambda x: None, "got a NoneType"),
}


@pytest.mark.parametrize("form", NO_CHUNKS)
def test_what_is_no_sequence_of_chunks(x: Tensor, form: str) -> None:
    make, said = NO_CHUNKS[form]
    for run in (divide_and_conquer, end_to_end):
        with pytest.raises(TypeError, match=f"chunks: .*{said}"):
            run(Tower(), make(x), cross)
    with pytest.raises(TypeError, match="chunks: "):
        accumulate(Tower(), make(x), lambda chunk, h: {"size": h.sum()})


def test_no_chunks_at_all() -> None:
    with pytest.raises(ValueError, match="chunks: there is none"):
        divide_and_conquer(Tower(), [], cross)


# The guard


class Holder:
    """Not a module itself."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = {"encoder": [module]}

    def encode(self, x: Tensor) -> Tensor:
        return self.parts["encoder"][0](x)

    __call__ = encode


def through(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)


def decorated(module: nn.Module) -> Callable[[Tensor], Tensor]:
    @functools.wraps(module.forward)
    def inner(*args: Any) -> Tensor:
        return module(*args)

    return inner


def later(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def outer(x: Tensor) -> Tensor:
        return inner(x)

    def inner(x: Tensor) -> Tensor:
        return (lambda y: module(y))(x)

    return outer


class Slots:
    """Without a dictionary of attributes."""

    __slots__ = ("module",)

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x)


class Unregistered(nn.Module):
    """A module that keeps another where PyTorch does not see it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.own = nn.Identity()
        self.others = [module]

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.others[0](x))


def deep(module: nn.Module, n: int = 4) -> Callable[[Tensor], Tensor]:
    inner = (lambda x: module(x)) if n == 0 else deep(module, n - 1)
    return lambda x: inner(x)


GLOBAL_MODULE = nn.Sequential(nn.Linear(DIM, 4), nn.BatchNorm1d(4)).double()

HIDDEN: dict[str, Callable[[nn.Module], Any]] = {
    "lambda": lambda module: lambda x: module(x),
    "partial": lambda module: functools.partial(through, module),
    "partial of a partial": lambda module: functools.partial(functools.partial(through), module),
    "partial, lambda": lambda module: functools.partial(lambda n, x: module(x), 1),
    "default": lambda module: lambda x, m=module: m(x),
    "bound method": lambda module: module.forward,
    "holder's method": lambda module: Holder(module).encode,
    "callable object": lambda module: Holder(module),
    "object with slots": Slots,
    "closure in a closure in a closure ...": deep,
    "plain list of a module": Unregistered,
    "decorated": decorated,
    "closure of a closure": later,
    "no_grad": lambda module: torch.no_grad()(lambda x: module(x)),
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "list": lambda module: lambda x, m=[module]: m[0](x),
    "global": lambda module: lambda x: GLOBAL_MODULE(x),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_batch_normalisation_is_found(x: Tensor, form: str) -> None:
    module = nn.Sequential(nn.Linear(DIM, 4), nn.BatchNorm1d(4)).double()
    with pytest.raises(ReplayError, match=r"buffer .*num_batches_tracked was changed"):
        divide_and_conquer(HIDDEN[form](module), x.split(4), cross)


def test_batch_normalisation_without_running_statistics_is_found(x: Tensor) -> None:
    module = nn.Sequential(nn.Linear(DIM, 4), nn.BatchNorm1d(4, track_running_stats=False)).double()
    with pytest.raises(ReplayError, match=r"Sequential\.1 normalises over the rows of a chunk"):
        divide_and_conquer(lambda x: module(x), x.split(4), cross)


def test_batch_normalisation_with_fixed_statistics_is_fine(x: Tensor) -> None:
    module = nn.Sequential(nn.Linear(DIM, 4), nn.BatchNorm1d(4)).double().eval()
    same_gradients(module, lambda x: module(x), x.split(4), cross, None)


def test_watch_is_demanded_where_no_module_is_found(x: Tensor) -> None:
    weight = nn.Parameter(torch.ones(DIM, 4, dtype=torch.float64))

    def encode(chunk: Tensor) -> Tensor:
        return chunk @ weight

    with pytest.raises(ValueError, match="watch: no module is found behind encode"):
        divide_and_conquer(encode, x.split(4), cross)
    assert weight.grad is None
    divide_and_conquer(encode, x.split(4), cross, watch=())
    assert weight.grad is not None
