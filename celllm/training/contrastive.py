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

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Encode = Callable[[Any], Tensor | tuple[Tensor, Any]]
Extra = Callable[[Any, Any], Mapping[str, Tensor]]


class ReplayError(RuntimeError):
    """The second pass over a chunk is not the first pass again, so its gradient would be wrong."""


def info_nce(h: Tensor, h_plus: Tensor, temperature: float = 0.05) -> Tensor:
    """InfoNCE with cosine similarity: each embedding against the positives of the whole batch.

    Source: paper, section 3.3.1, first equation. Half precision embeddings are compared in float32.

    Parameters
    ----------
    h, h_plus
        The two views, (T, d); row i of one is the positive of row i of the other.
    temperature
        Divides the similarities. The paper does not state its value; 0.05 is SimCSE's.

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
    extra: Extra | None = None,
    keep_graphs: int | None = None,
    watch: nn.Module | Sequence[nn.Module] = (),
    scale: Callable[[Tensor], Tensor] = lambda value: value,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """Add the exact gradient of ``loss`` over all chunks to ``.grad``, with the graph of one pass in memory.

    Parameters
    ----------
    encode
        ``encode(chunk)`` gives the embeddings of a chunk, (t, d), or a tuple of them and anything that
        ``extra`` needs. One function is called twice per chunk (two dropout passes); a sequence of functions
        gives one view each (an image tower and a text tower, say).
    chunks
        The parts of the batch, of any type that ``encode`` takes and of any lengths.
    loss
        ``loss(h, h_plus, ...)``, one argument of shape (T, d) per view, gives a scalar; see :func:`info_nce`.
    extra
        ``extra(chunk, outputs)`` gives further losses by name. It is called once for every chunk *and* view,
        on the second pass, and the sum of all it returns is back-propagated along with the slice of ``loss``.
    keep_graphs
        How many passes of the first round may keep their graph, which spares their second forward; that many
        graphs are in memory at once. Default: 1 (which costs no memory), but all of them for a single chunk,
        which then is plain end-to-end training without a second forward.
    watch
        Modules that ``encode`` runs, when it is not itself a module or a method of one: their buffers are
        checked (see Raises).
    scale
        Applied to every loss before it is back-propagated, as ``torch.amp.GradScaler.scale``.
    no_sync
        Context for all passes but the last that runs with a graph, as ``DistributedDataParallel.no_sync``.

    Returns
    -------
    Detached, unscaled losses: ``contrast`` and the sums of what ``extra`` returned, by name.

    Raises
    ------
    ReplayError
        When a forward changes a buffer (batch normalisation; random features redrawn within ``forward``), or
        the second pass gives other embeddings than the first (randomness outside torch's default generators).
        Gradients left in ``.grad`` are then wrong.
    """
    views = [encode, encode] if callable(encode) else list(encode)
    n_passes = len(views) * len(chunks)
    if keep_graphs is None:
        keep_graphs = n_passes if len(chunks) == 1 else 1
    if keep_graphs >= n_passes:
        return end_to_end(views, chunks, loss, extra=extra, scale=scale)
    buffers = _Buffers([*_modules_of(views), *([watch] if isinstance(watch, nn.Module) else watch)])
    passes = [_Pass(view, encode, chunk) for chunk in chunks for view, encode in enumerate(views)]
    for number, one in enumerate(passes):
        with no_sync():
            one.embed(keep_graph=number >= n_passes - keep_graphs)
    buffers.check()
    after = RandomState()
    total = {"contrast": _assign_gradients(passes, loss, scale)}
    # Kept graphs go first, to free them; a pass that runs again comes last, for the sake of no_sync.
    order = passes[n_passes - keep_graphs :] + passes[: n_passes - keep_graphs]
    for one in order:
        with nullcontext() if one is order[-1] else no_sync():
            _add(total, one.backward(extra, scale))
    after.restore()
    buffers.check()
    _check_replay(passes)
    return total


def end_to_end(
    encode: Encode | Sequence[Encode],
    chunks: Sequence[Any],
    loss: Callable[..., Tensor],
    *,
    extra: Extra | None = None,
    scale: Callable[[Tensor], Tensor] = lambda value: value,
) -> dict[str, Tensor]:
    """Add the gradient of ``loss`` to ``.grad`` the plain way: the graphs of all passes in memory at once.

    Parameters and result as of :func:`divide_and_conquer`.
    """
    views = [encode, encode] if callable(encode) else list(encode)
    embeddings: list[list[Tensor]] = [[] for _ in views]
    total: dict[str, Tensor] = {}
    for chunk in chunks:
        for view, encode_view in enumerate(views):
            h, outputs = _output(encode_view(chunk))
            embeddings[view].append(h)
            _add(total, extra(chunk, outputs) if extra else {})
    total["contrast"] = loss(*(torch.cat(h) for h in embeddings))
    torch.autograd.backward([scale(value) for value in total.values()])
    return {name: value.detach() for name, value in total.items()}


def accumulate(
    encode: Callable[[Any], Any],
    chunks: Sequence[Any],
    extra: Extra,
    *,
    scale: Callable[[Tensor], Tensor] = lambda value: value,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """Add the gradient of losses that are sums over chunks to ``.grad``: one forward, one backward each.

    ``extra(chunk, encode(chunk))`` gives the losses; other parameters as of :func:`divide_and_conquer`.
    """
    total: dict[str, Tensor] = {}
    for number, chunk in enumerate(chunks, start=1):
        with nullcontext() if number == len(chunks) else no_sync():
            losses = extra(chunk, encode(chunk))
            torch.autograd.backward([scale(value) for value in losses.values()])
        _add(total, {name: value.detach() for name, value in losses.items()})
    return total


class RandomState:
    """The state of torch's default generators: CPU, and every CUDA device once CUDA is in use.

    The devices of the *inputs* do not tell which generators a module draws from, so all are remembered.
    """

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        """Make the default generators continue from this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@dataclass(eq=False)
class _Pass:
    """One chunk through one view: run once for its embeddings, then again for its gradient."""

    view: int
    encode: Encode
    chunk: Any
    gradient: Tensor | None = None

    def embed(self, keep_graph: bool) -> None:
        """First round: remember random state and embeddings, and the graph if it is kept."""
        self.random_state = RandomState()
        with torch.set_grad_enabled(keep_graph):
            h, outputs = _output(self.encode(self.chunk))
        self.h = h.detach()
        self.graph = (h, outputs) if keep_graph else None

    def backward(self, extra: Extra | None, scale: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Second round: back-propagate ``self.gradient`` and the extra losses; return the latter."""
        if self.graph is None:
            self.random_state.restore()
            self.graph = _output(self.encode(self.chunk))
        (h, outputs), self.graph = self.graph, None
        self.drift = (h.detach() - self.h).abs().max()
        losses = dict(extra(self.chunk, outputs)) if extra else {}
        roots: list[Tensor] = [h, *map(scale, losses.values())]
        torch.autograd.backward(roots, [self.gradient, *(torch.ones_like(root) for root in roots[1:])])
        return {name: value.detach() for name, value in losses.items()}


def _assign_gradients(
    passes: list[_Pass], loss: Callable[..., Tensor], scale: Callable[[Tensor], Tensor]
) -> Tensor:
    """Evaluate the loss over the whole batch and give every pass its slice of the gradient."""
    views = [[one for one in passes if one.view == view] for view in sorted({one.view for one in passes})]
    embeddings = [torch.cat([one.h for one in view]).requires_grad_() for view in views]
    value = loss(*embeddings)
    gradients = torch.autograd.grad(scale(value), embeddings)
    for view, gradient in zip(views, gradients, strict=True):
        for one, part in zip(view, gradient.split([len(one.h) for one in view]), strict=True):
            one.gradient = part
    return value.detach()


def _output(encoded: Tensor | tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    return (encoded, None) if isinstance(encoded, Tensor) else encoded


def _add(total: dict[str, Tensor], losses: Mapping[str, Tensor]) -> None:
    for name, value in losses.items():
        total[name] = total[name] + value if name in total else value


def _modules_of(views: Iterable[Encode]) -> list[nn.Module]:
    """The modules that can be seen behind functions: modules themselves and owners of bound methods."""
    owners = (getattr(encode, "__self__", encode) for encode in views)
    return [owner for owner in owners if isinstance(owner, nn.Module)]


class _Buffers:
    """Notices in-place changes and replacements of buffers, without reading their values."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.modules = list(modules)
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
