"""Exact contrastive gradients of a large batch in the memory of one small chunk, for any ``nn.Module``.

The gradient of a contrastive loss L over T embeddings h = f(x) is a sum over chunks of the batch,

    dL/dw = sum_k dL/dh^(k) . dh^(k)/dw        (paper, appendix A)

and dL/dh needs the values of all embeddings but no graph. So :func:`divide_and_conquer`

1. embeds all T inputs chunk by chunk without a graph, remembering the random state of every pass,
2. evaluates the loss once over T x T and keeps dL/dh,
3. runs each chunk again under its remembered random state and back-propagates its slice of dL/dh.

The paper evaluates the T x T loss again for every chunk instead of keeping dL/dh; the gradient is the same
(Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup"). With F and B the
cost of a forward and of a backward, the price is (2F + B) / (F + B) of end-to-end training.

A pass is one chunk through one view. Dropout is the augmentation of SimCSE (Gao, Yao, Chen 2021) and of the
paper: by default the two views of a chunk are two passes of the same function over the same input.
"""

import copy
import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Encode = Callable[[Any], Any]
Extra = Callable[[Any, Any], Mapping[str, Tensor]]
Scale = Callable[[Tensor], Tensor]
NoSync = Callable[[], AbstractContextManager[Any]]


class ReplayError(RuntimeError):
    """The second pass over a chunk is not the first pass again, so its gradient would be wrong."""


def info_nce(h: Tensor, h_plus: Tensor, temperature: float | Tensor = 0.05) -> Tensor:
    """InfoNCE with cosine similarity: each embedding against the positives of the whole batch.

    Source: paper, section 3.3.1, first equation. Half precision embeddings are compared in float32.

    Parameters
    ----------
    h, h_plus
        The two views, (T, d); row i of one is the positive of row i of the other.
    temperature
        Divides the similarities; a tensor of one number where it is learnt. The paper does not state its
        value; 0.05 is SimCSE's.

    Returns
    -------
    The mean over the T rows, a scalar.
    """
    h, h_plus = functional.normalize(at_least_float32(h)), functional.normalize(at_least_float32(h_plus))
    similarity = h @ h_plus.T
    return functional.cross_entropy(similarity / temperature, torch.arange(len(h), device=h.device))


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` as it is, or in float32 when it has half precision."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def divide_and_conquer(
    encode: Encode | Sequence[Encode],
    chunks: Sequence[Any],
    loss: Callable[..., Tensor],
    *,
    embedding: str | Callable[[Any], Tensor] | None = None,
    extra: Extra | None = None,
    keep_graphs: int | None = None,
    watch: nn.Module | Sequence[nn.Module] | None = None,
    scale: Scale = lambda value: value,
    no_sync: NoSync = nullcontext,
) -> dict[str, Tensor]:
    """Add the exact gradient of ``loss`` over all chunks to ``.grad``, with the graph of one pass in memory.

    Parameters
    ----------
    encode
        ``encode(chunk)`` gives the embeddings of a chunk, (t, d); a tuple of them and anything that ``extra``
        needs; or a mapping, dataclass or named tuple that holds them (see ``embedding``). One function is
        called twice per chunk (two dropout passes); a sequence of functions gives one view each (an image
        tower and a text tower, say). A tower may be frozen.
    chunks
        The parts of the batch, of any type that ``encode`` takes and of any lengths; see :func:`split`.
    loss
        ``loss(h, h_plus, ...)``, one argument of shape (T, d) per view, gives a scalar; see :func:`info_nce`.
        It is evaluated once, and parameters that it uses itself (a learnt temperature) get their gradient
        there.
    embedding
        Name of the field that holds the embeddings, or a function from what ``encode`` gives to them; needed
        where a mapping or dataclass has more than one field of shape (t, d).
    extra
        ``extra(chunk, outputs)`` gives further losses by name. It is called once for every chunk *and* view,
        on the second pass, and the sum of all it returns is back-propagated along with the slice of ``loss``.
        ``outputs`` is the second part of a tuple, or the whole mapping or dataclass.
    keep_graphs
        How many passes of the first round may keep their graph, which spares their second forward; that many
        graphs are in memory at once. Default: 1 (which costs no memory), but all of them for a single chunk,
        which then is plain end-to-end training without a second forward.
    watch
        Modules that ``encode`` runs, whose buffers are checked (see Raises), beside those that are found: a
        module itself, and what a method, closure or ``functools.partial`` refers to. Needed where none is
        found; an empty sequence says that there is none.
    scale
        Applied to every loss before it is back-propagated, as ``torch.amp.GradScaler.scale``.
    no_sync
        Context for all but the last pass of each encoder, as ``DistributedDataParallel.no_sync``.

    Returns
    -------
    Detached, unscaled losses: ``contrast`` and the sums of what ``extra`` returned, by name.

    Raises
    ------
    ReplayError
        When a forward changes a buffer (random features redrawn within ``forward``) or normalises over the
        rows of a chunk (batch normalisation), or the second pass gives other embeddings than the first
        (randomness outside torch's default generators). Gradients left in ``.grad`` are then wrong.
    TypeError, ValueError
        For ``chunks`` that are not a sequence of chunks, an output without embeddings, and an ``encode``
        behind which no module is found when ``watch`` is not given. Nothing has been added to ``.grad``.
    """
    views = _views(encode, chunks)
    n_passes = len(views) * len(chunks)
    if keep_graphs is None:
        keep_graphs = n_passes if len(chunks) == 1 else 1
    if keep_graphs >= n_passes:
        return end_to_end(views, chunks, loss, embedding=embedding, extra=extra, scale=scale)
    guard = _Guard(views, watch)
    passes = [_Pass(view, encode, chunk, embedding) for chunk in chunks for view, encode in enumerate(views)]
    # The last pass of an encoder synchronises its gradients, so its forward must run after the others.
    keep_graphs = min(keep_graphs, n_passes - len(_last_of_each_encoder(passes)))
    for number, one in enumerate(passes):
        with no_sync():
            one.embed(keep_graph=number >= n_passes - keep_graphs)
    guard.check()
    after = RandomState()
    with no_sync():
        total = {"contrast": _assign_gradients(passes, loss, scale)}
    # Kept graphs go first, to free them.
    order = passes[n_passes - keep_graphs :] + passes[: n_passes - keep_graphs]
    synchronising = _last_of_each_encoder(order)
    for one in order:
        with nullcontext() if one in synchronising else no_sync():
            _add(total, one.backward(extra, scale))
    after.restore()
    guard.check()
    _check_replay(passes)
    return total


def end_to_end(
    encode: Encode | Sequence[Encode],
    chunks: Sequence[Any],
    loss: Callable[..., Tensor],
    *,
    embedding: str | Callable[[Any], Tensor] | None = None,
    extra: Extra | None = None,
    scale: Scale = lambda value: value,
) -> dict[str, Tensor]:
    """Add the gradient of ``loss`` to ``.grad`` the plain way: the graphs of all passes in memory at once.

    Parameters and result as of :func:`divide_and_conquer`.
    """
    views = _views(encode, chunks)
    embeddings: list[list[Tensor]] = [[] for _ in views]
    total: dict[str, Tensor] = {}
    for chunk in chunks:
        for view, encode_view in enumerate(views):
            h, outputs = _output(encode_view(chunk), embedding)
            embeddings[view].append(h)
            _add(total, extra(chunk, outputs) if extra else {})
    total["contrast"] = loss(*(torch.cat(h) for h in embeddings))
    _backward(map(scale, total.values()))
    return {name: value.detach() for name, value in total.items()}


def accumulate(
    encode: Callable[[Any], Any],
    chunks: Sequence[Any],
    extra: Extra,
    *,
    scale: Scale = lambda value: value,
    no_sync: NoSync = nullcontext,
) -> dict[str, Tensor]:
    """Add the gradient of losses that are sums over chunks to ``.grad``: one forward, one backward each.

    ``extra(chunk, encode(chunk))`` gives the losses; other parameters as of :func:`divide_and_conquer`.
    """
    _views(encode, chunks)
    total: dict[str, Tensor] = {}
    for number, chunk in enumerate(chunks, start=1):
        with nullcontext() if number == len(chunks) else no_sync():
            losses = extra(chunk, encode(chunk))
            _backward(map(scale, losses.values()))
        _add(total, {name: value.detach() for name, value in losses.items()})
    return total


def split(batch: Any, n: int) -> list[Any]:
    """Cut a batch into chunks of ``n`` rows, the last perhaps shorter.

    Parameters
    ----------
    batch
        A tensor or array, or a mapping (also a tokeniser's output), dataclass or tuple of them, nested at
        will. Tensors and arrays are cut along their first dimension, and so are lists (of texts, say); what
        has no length (numbers, None, a tensor of one number, a string) goes into every chunk.
    n
        Rows of a chunk, at least 1.

    Raises
    ------
    ValueError
        When nothing in the batch has rows, or its parts differ in their number (which are named).
    """
    lengths = dict(_lengths(batch))
    if n < 1 or not lengths or 0 in lengths.values():
        raise ValueError(
            f"split: expected a batch with rows and chunks of 1 row or more, got n = {n}, {lengths}"
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(f"split: all parts of a batch need the same number of rows, found {lengths}")
    (n_rows,) = set(lengths.values())
    return [_cut(batch, slice(start, start + n)) for start in range(0, n_rows, n)]


def _lengths(part: Any, name: str = "batch") -> Iterator[tuple[str, int]]:
    """Numbers of rows of all that :func:`split` cuts, by name."""
    if isinstance(part, list) or (getattr(part, "ndim", 0) > 0 and hasattr(part, "shape")):
        yield name, len(part)
    else:
        for key, value in _fields(part).items():
            yield from _lengths(value, f"{name}.{key}")


def _cut(part: Any, rows: slice) -> Any:
    if isinstance(part, list) or (getattr(part, "ndim", 0) > 0 and hasattr(part, "shape")):
        return part[rows]
    fields = {key: _cut(value, rows) for key, value in _fields(part).items()}
    if isinstance(part, MutableMapping):
        chunk = copy.copy(part)
        chunk.update(fields)
        return chunk
    if isinstance(part, Mapping):
        return fields
    if isinstance(part, tuple):
        return type(part)(*fields.values()) if hasattr(part, "_fields") else tuple(fields.values())
    return dataclasses.replace(part, **fields) if fields else part


def _fields(record: Any) -> dict[Any, Any]:
    """What a mapping, dataclass or tuple holds, by name or number; of anything else nothing."""
    if isinstance(record, Mapping):
        return dict(record.items())
    if isinstance(record, tuple):
        return dict(zip(getattr(record, "_fields", range(len(record))), record, strict=True))
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {}


def _views(encode: Encode | Sequence[Encode], chunks: Sequence[Any]) -> list[Encode]:
    """The function of each view; what is not a sequence of chunks is refused.

    A tensor or mapping can be iterated too, row by row or name by name, but that would be nonsense.
    """
    if isinstance(chunks, Mapping | Tensor | str) or hasattr(chunks, "__array__"):
        raise TypeError(f"chunks: a {type(chunks).__name__} is one batch; pass split(batch, n)")
    if not (hasattr(chunks, "__len__") and hasattr(chunks, "__getitem__")):
        raise TypeError(
            f"chunks: expected a list or tuple of chunks, got a {type(chunks).__name__}; pass list(...)"
        )
    if not len(chunks):
        raise ValueError("chunks: there is none")
    views = [encode, encode] if callable(encode) else list(encode)
    if not views or not all(map(callable, views)):
        raise TypeError("encode: expected a function or a sequence of functions, one per view")
    return views


class RandomState:
    """The state of torch's default generators: CPU, and every CUDA device once CUDA is in use.

    The devices of the *inputs* do not reveal which generators a module draws from, so all are remembered.
    """

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        """Make the default generators continue from this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@dataclasses.dataclass(eq=False)
class _Pass:
    """One chunk through one view: run once for its embeddings, then again for its gradient."""

    view: int
    encode: Encode
    chunk: Any
    embedding: str | Callable[[Any], Tensor] | None
    gradient: Tensor | None = None

    def embed(self, keep_graph: bool) -> None:
        """First round: remember random state and embeddings, and the graph if it is kept."""
        self.random_state = RandomState()
        with torch.set_grad_enabled(keep_graph):
            h, outputs = _output(self.encode(self.chunk), self.embedding)
        self.h = h.detach()
        self.graph = (h, outputs) if keep_graph else None

    def backward(self, extra: Extra | None, scale: Scale) -> dict[str, Tensor]:
        """Second round: back-propagate ``self.gradient`` and the extra losses; return the latter."""
        if self.graph is None:
            self.random_state.restore()
            self.graph = _output(self.encode(self.chunk), self.embedding)
        (h, outputs), self.graph = self.graph, None
        self.drift = (h.detach() - self.h).abs().max()
        losses = dict(extra(self.chunk, outputs)) if extra else {}
        _backward([h, *map(scale, losses.values())], self.gradient)
        return {name: value.detach() for name, value in losses.items()}


def _last_of_each_encoder(passes: Sequence[_Pass]) -> list[_Pass]:
    """Of each different encoder (two dropout views are one) the last pass."""
    last: list[_Pass] = []
    for one in reversed(passes):
        if all(one.encode != other.encode for other in last):
            last.append(one)
    return last


def _assign_gradients(passes: list[_Pass], loss: Callable[..., Tensor], scale: Scale) -> Tensor:
    """Evaluate the loss over the whole batch and give every pass its slice of the gradient."""
    views = [[one for one in passes if one.view == view] for view in sorted({one.view for one in passes})]
    embeddings = [torch.cat([one.h for one in view]).requires_grad_() for view in views]
    value = loss(*embeddings)
    scale(value).backward()
    for view, h in zip(views, embeddings, strict=True):
        gradient = torch.zeros_like(h) if h.grad is None else h.grad
        for one, part in zip(view, gradient.split([len(one.h) for one in view]), strict=True):
            one.gradient = part
    return value.detach()


def _backward(roots: Iterable[Tensor], first: Tensor | None = None) -> None:
    """Back-propagate from all roots that have a graph; ``first`` is the gradient of the first, else 1."""
    roots = list(roots)
    gradients = [first if first is not None and i == 0 else torch.ones_like(x) for i, x in enumerate(roots)]
    pairs = [(root, g) for root, g in zip(roots, gradients, strict=True) if root.requires_grad]
    if pairs:
        torch.autograd.backward([root for root, _ in pairs], [g for _, g in pairs])


def _output(encoded: Any, embedding: str | Callable[[Any], Tensor] | None) -> tuple[Tensor, Any]:
    """Embeddings, and what ``extra`` gets."""
    if callable(embedding):
        return embedding(encoded), encoded
    if isinstance(encoded, Tensor):
        return encoded, None
    fields = _fields(encoded)
    if embedding is not None:
        h = fields.get(embedding, getattr(encoded, embedding, None))
        if not isinstance(h, Tensor):
            raise TypeError(
                f"embedding: the output of encode has no tensor {embedding!r}; it has {list(fields)}"
            )
        return h, encoded
    if type(encoded) is tuple and len(encoded) == 2 and isinstance(encoded[0], Tensor):
        return encoded
    found = [
        name for name, x in fields.items() if isinstance(x, Tensor) and x.ndim == 2 and x.is_floating_point()
    ]
    if len(found) != 1:
        raise TypeError(
            f"encode gives a {type(encoded).__name__} with {len(found)} fields of shape (t, d) among "
            f"{list(fields)}; say which one holds the embeddings: embedding='name', or a function"
        )
    return fields[found[0]], encoded


def _add(total: dict[str, Tensor], losses: Mapping[str, Tensor]) -> None:
    for name, value in losses.items():
        total[name] = total[name] + value if name in total else value


def _modules_behind(thing: Any, seen: set[int], depth: int = 12) -> Iterator[nn.Module]:
    """Modules that a callable can reach: itself, its owner, what its closure and global names refer to."""
    if id(thing) in seen or depth == 0 or isinstance(thing, type | types.ModuleType | Tensor | str | bytes):
        return
    seen.add(id(thing))
    inner: list[Any] = []
    if isinstance(thing, nn.Module):
        yield thing
        # Its own modules come with it; others may stand in a plain list of it.
        inner = [value for name, value in vars(thing).items() if not name.startswith("_")]
    elif isinstance(thing, functools.partial):
        inner = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, types.MethodType):
        inner = [thing.__self__, thing.__func__]
    elif isinstance(thing, types.FunctionType):
        inner = [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        # Not those of variables that get their value later.
        inner += [cell.cell_contents for cell in thing.__closure__ or () if cell != types.CellType()]
        if thing.__globals__.get("__name__", "").partition(".")[0] != "torch":
            inner += [thing.__globals__[name] for name in _names(thing.__code__) if name in thing.__globals__]
    elif isinstance(thing, Mapping | list | tuple | set):
        if len(thing) <= 1000:  # longer ones hold data
            inner = list(thing.values() if isinstance(thing, Mapping) else thing)
    else:
        inner = list(getattr(thing, "__dict__", {}).values())
        inner += [getattr(thing, name, None) for name in getattr(thing, "__slots__", ())]
    for one in inner:
        yield from _modules_behind(one, seen, depth - 1)


def _names(code: types.CodeType) -> set[str]:
    """Global names in a function and in those within it."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


class _Guard:
    """Notice whatever makes a second pass differ from the first, without reading values.

    That is a buffer that is changed in place or replaced, and normalisation over the rows of a chunk.
    """

    def __init__(self, views: Sequence[Encode], watch: nn.Module | Sequence[nn.Module] | None) -> None:
        seen: set[int] = set()
        self.modules = [watch] if isinstance(watch, nn.Module) else list(watch or ())
        self.modules += [module for view in views for module in _modules_behind(view, seen)]
        if not self.modules and watch is None:
            raise ValueError(
                "watch: no module is found behind encode, so its buffers cannot be checked; pass the modules "
                "that it runs as watch=..., or watch=() if there is none"
            )
        self.before = self._versions()

    def _versions(self) -> dict[str, tuple[int, int]]:
        return {
            f"{type(module).__name__}.{name}": (id(buffer), buffer._version)
            for module in self.modules
            for name, buffer in module.named_buffers()
        }

    def check(self) -> None:
        now = self._versions()
        changed = sorted(
            name for name in now.keys() | self.before.keys() if now.get(name) != self.before.get(name)
        )
        if changed:
            raise ReplayError(
                f"buffer {changed[0]} was changed by a forward pass: a second pass is not the first again; "
                "use layers without running statistics, and redraw random features between optimiser steps"
            )
        for module in self.modules:
            for name, layer in module.named_modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:
                    raise ReplayError(
                        f"{type(module).__name__}.{name} normalises over the rows of a chunk, so that an "
                        "embedding depends on its chunk; use layer or group normalisation"
                    )


def _check_replay(passes: Sequence[_Pass]) -> None:
    """Compare the embeddings of both rounds (one look at the values, at the end: no waiting for the GPU)."""
    drift = torch.stack([one.drift for one in passes]).max()
    size = torch.stack([one.h.abs().max() for one in passes]).max()
    # Kernels with atomics or another backend differ by rounding; another dropout mask by a tenth and more.
    if drift > size * (1e-8 if drift.dtype == torch.float64 else 1e-2):
        raise ReplayError(
            f"the second pass over a chunk gave other embeddings (off by {float(drift / size):.1e}): "
            "encode draws random numbers outside torch's default generators, or keeps state between calls"
        )
