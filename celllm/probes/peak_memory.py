"""Peak memory of one training step, without the memory: the step runs on tensors that have no values.

The real trainer takes a step of the real model on PyTorch's meta device, and every storage that an operation
makes there is counted from its birth to its release. What is counted is what CUDA's allocator would call
allocated; context, libraries' own workspaces and fragmentation come on top.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from celllm.corpus.tokens import CellBatch
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.training.contrastive import info_nce
from celllm.training.distributed import Processes
from celllm.training.masked_batches import Batch
from celllm.training.objectives import hide_expressions
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.trainer import CONTRAST_SIZE, Trainer

ROUNDED_TO = 512  # bytes: CUDA's allocator gives no smaller pieces
_LEARNING_RATE = 1e-4


class Accountant(TorchDispatchMode):
    """Counts the bytes of all storages made within its block on one kind of device, as long as they live.

    ``now`` are the bytes at this moment, ``peak`` the most so far.
    """

    n_chosen = 0  # tokens that a mask picks, where that cannot be seen

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.now, self.peak = device, 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if not isinstance(tensor, Tensor) or tensor.device.type != self.device:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                size = -(-storage.nbytes() // ROUNDED_TO) * ROUNDED_TO
                self._known.add(storage._cdata)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, storage._cdata, size)
        return made

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _OnMeta(Accountant):
    """An accountant of the meta device: where a step looks at a value, it gets one that lets it continue."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return False if args[0].dtype == torch.bool else 1
        if func is torch.ops.aten.index.Tensor and args[1][0].dtype == torch.bool:
            shape = args[1][0].dim(), self.n_chosen
            args = (args[0], list(torch.empty(shape, dtype=torch.int64, device="meta")))
        return super().__torch_dispatch__(func, types, args, kwargs)


@dataclass(frozen=True)
class _Valueless(Processes):
    """One process on the meta device, where numbers have no sums."""

    def sum(self, numbers: Mapping[str, Tensor | float]) -> dict[str, float]:
        return dict.fromkeys(numbers, 1.0)


class _FusedDropout(nn.Dropout):
    """Dropout as CUDA's kernel does it: one byte per element for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, self.p, self.training)[0]


class PeakMeter:
    """Takes steps of pre-training and reports their peaks.

    Parameters
    ----------
    config
        Shape of the encoder; its gene embeddings are frozen, all products in float32.
    device
        ``meta`` accounts for an accelerator, with dropout as CUDA's kernel does it; ``cpu`` accounts for this
        CPU, on tensors with values; of a CUDA device the allocator is asked.
    """

    def __init__(self, config: EncoderConfig, device: str = "meta") -> None:
        self.config, self.device = config, torch.device(device)
        self.accountant = (_OnMeta if device == "meta" else Accountant)(self.device.type)
        table = torch.zeros(config.n_genes, config.dim)
        settings = PretrainSettings(precision="float32", token_budget=1)
        kind = _Valueless if device == "meta" else Processes
        with self.accountant:
            processes = kind(0, 1, self.device)
            self.trainer = Trainer(_row("end_to_end"), settings, Encoder(config, table), processes)
            if device == "meta":
                for parent in list(self.trainer.model.modules()):
                    for name, child in list(parent.named_children()):
                        if isinstance(child, nn.Dropout) and child.p > 0:
                            setattr(parent, name, _FusedDropout(child.p).train(child.training))
            for parameter in self.trainer.trained:
                parameter.grad = torch.zeros_like(parameter)
            self.trainer.optimiser.step()
            self.trainer.optimiser.zero_grad(set_to_none=True)

    def peak(self, contrast: str, n_cells: int, length: int) -> int:
        """Bytes at the peak of a step on ``n_cells`` cells of ``length`` genes.

        ``end_to_end`` takes all cells in one chunk, ``divide_and_conquer`` each in one of its own.
        """
        self.trainer.row = _row(contrast)
        at_once = n_cells if contrast == "end_to_end" else 1
        genes = torch.arange(length) % self.config.n_genes
        gene_ids = torch.cat([torch.tensor([self.config.n_genes]), genes]).repeat(at_once, 1)
        cells = CellBatch(gene_ids, torch.ones_like(gene_ids), torch.ones_like(gene_ids, dtype=torch.bool))
        numbers, normal = np.arange(at_once, dtype=np.uint64), np.zeros(at_once, dtype=np.uint8)
        n_chunks = n_cells // at_once
        chunks = [hide_expressions(cells, numbers, normal)] * n_chunks
        batch = Batch(n_cells, [np.arange(at_once)] * n_chunks, chunks, {})
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.trainer.step(batch, 0, _LEARNING_RATE)
            return torch.cuda.max_memory_allocated(self.device)
        with self.accountant as accountant:
            accountant.n_chosen = len(batch.chunks[0].targets)
            accountant.peak = accountant.now
            self.trainer.step(batch, 0, _LEARNING_RATE)
            return accountant.peak


def _row(contrast: str) -> ModelRow:
    return ModelRow(size="", contrast=contrast)  # type: ignore[arg-type]


@cache
def contrast_peak(n_cells: int) -> int:
    """Bytes that the contrastive loss of so many cells takes: both views' vectors, T x T, and gradients."""
    with Accountant("meta") as accountant:
        views = [torch.empty(n_cells, CONTRAST_SIZE, device="meta") for _ in range(2)]
        one, other = (torch.cat([view]).requires_grad_() for view in views)
        torch.autograd.grad(info_nce(one, other), [one, other])
        return accountant.peak
