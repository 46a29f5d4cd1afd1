"""One optimiser step of pre-training: gradients of the objectives in use, and the update."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from celllm.errors import UserError
from celllm.model.compilation import compile_layers
from celllm.model.encoder import Encoder
from celllm.optimiser import adam
from celllm.training.checkpoints import load_optimiser, optimiser_tensors, prefixed, unprefixed
from celllm.training.columns import OBJECTIVES
from celllm.training.contrastive import accumulate, divide_and_conquer, end_to_end, info_nce
from celllm.training.distributed import Processes
from celllm.training.masked_batches import Batch
from celllm.training.moco import MomentumContrast
from celllm.training.objectives import MaskedCells, PretrainingModel
from celllm.training.randomness import Stream, seed_of
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.throughput import pass_flops

Outputs = tuple[MaskedCells, Tensor]
TokenLosses = Callable[[MaskedCells, Outputs], dict[str, Tensor]]

CONTRAST_SIZE = 512
"""Length of the vectors that the contrastive loss compares (paper, Table F.1)."""


class NotFinite(ArithmeticError):
    """A loss or gradient is NaN or infinite; ``rows`` are cells of this process whose own encoding is so."""

    def __init__(self, what: str, rows: list[int]) -> None:
        super().__init__(what)
        self.rows = rows


class Trainer:
    """Model, optimiser and everything between a batch and the next parameters.

    The row says which objectives there are. ``flops`` counts the operations of all passes that this process
    has begun, backward passes included.
    """

    def __init__(
        self, row: ModelRow, settings: PretrainSettings, encoder: Encoder, processes: Processes
    ) -> None:
        self.row, self.settings, self.processes = row, settings, processes
        self.precision = resolve_precision(settings.precision, processes.device)
        encoder.gradient_checkpointing = settings.gradient_checkpointing
        contrast_on = row.contrast_on if row.contrast != "none" else None
        self.model = PretrainingModel(
            encoder, contrast=contrast_on, tumour=row.tumour_task, size=CONTRAST_SIZE
        )
        self.temperature = row.temperature or settings.temperature
        self.wrapped = processes.wrap(self.model)
        self.moco: MomentumContrast | None = None
        if row.contrast == "moco":
            self.moco = MomentumContrast(
                self.model,
                self.model.contrast_size,
                queue_length=settings.queue_length,
                momentum=settings.momentum,
                temperature=self.temperature,
                generator=torch.Generator().manual_seed(seed_of(settings.seed, Stream.QUEUE)),
            ).to(processes.device)
        if settings.compile:
            compile_layers(self.model.encoder.layers)
            if self.moco is not None:
                compile_layers(self.moco.model.get_submodule("encoder.layers"))
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = adam(self.trained, settings, (settings.adam_beta1, settings.adam_beta2))
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=self.precision == torch.float16)
        self.flops = 0

    def step(self, batch: Batch, step: int, learning_rate: float) -> dict[str, float]:
        """Update the parameters with one batch: :meth:`gradients`, then :meth:`update`."""
        losses = self.gradients(batch, step)
        return losses | self.update(batch, learning_rate)

    def gradients(self, batch: Batch, step: int) -> dict[str, float]:
        """The first part of a step, all of its time. Broken off at any place, it can be begun again.

        ``step`` updates are done before; the random numbers of this one follow from that. Returns the losses
        of :meth:`add_gradients`; raises :class:`NotFinite` before anything is updated.
        """
        every = self.settings.feature_redraw_steps
        if every and step and step % every == 0:
            generator = torch.Generator().manual_seed(seed_of(self.settings.seed, Stream.FEATURES, step))
            self.model.encoder.redraw_features(generator)
        torch.manual_seed(seed_of(self.settings.seed, Stream.DROPOUT, step, self.processes.rank))
        if self.moco is not None:
            self.moco.share_buffers(self.model)
        losses = self.add_gradients(batch)
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            raise NotFinite(f"loss '{wrong[-1]}' is {losses[wrong[-1]]}", self._suspects(batch))
        return losses

    def encode(self, chunk: MaskedCells) -> tuple[Tensor, Outputs]:
        """Pooled vectors of a chunk, and what the losses of its tokens need."""
        self._count(chunk, backward=torch.is_grad_enabled())
        cells = chunk.to(self.processes.device)
        with self._autocast():
            pooled, states = self.wrapped(cells)
        return pooled, (cells, states)

    def _count(self, chunk: MaskedCells, backward: bool) -> None:
        self.flops += pass_flops(self.model.encoder.config, chunk.mask, backward)

    def _autocast(self) -> AbstractContextManager[Any]:
        reduced = self.precision != torch.float32
        return torch.autocast(self.processes.device.type, self.precision) if reduced else nullcontext()

    def add_gradients(self, batch: Batch) -> dict[str, float]:
        """Add the gradient of all objectives over the logical batch to ``.grad``.

        Returns ``loss``, the weighted sum, then ``mlm``, ``tumour`` and ``contrast`` as far as they are in
        use, each without its weight and over all processes.
        """
        self.model.train()
        token_losses = self._token_losses(batch)
        if self.row.contrast == "none":
            losses = accumulate(
                self.encode,
                batch.chunks * self.row.n_views,  # a second view is the same cells under another dropout
                lambda chunk, encoded: token_losses(chunk, encoded[1]),
                **self._how(),
            )
        elif self.moco is not None:
            losses = self._moco_gradients(self.moco, batch, token_losses)
        else:
            losses = self._contrast_gradients(batch, token_losses)
        summed = self.processes.sum(losses)
        return {
            "loss": sum(summed.values()),
            **{name: summed[name] / self.settings.weight(name) for name in sorted(summed)},
        }

    def _token_losses(self, batch: Batch) -> TokenLosses:
        """The losses of one chunk and view as its shares of the logical batch's, so that they just add up."""
        n_masked = self.processes.sum({"n": float(batch.n_masked)})["n"]
        n_of = {"masked token": max(1.0, n_masked), "cell": batch.n_cells, "batch": 1}
        shares = {
            objective.name: self.settings.weight(objective.name) / n_of[objective.per] / self.row.n_views
            for objective in OBJECTIVES
        }

        def token_losses(chunk: MaskedCells, outputs: Outputs) -> dict[str, Tensor]:
            with self._autocast():
                sums = self.model.losses(*outputs)
            return {name: value * shares[name] for name, value in sums.items()}

        return token_losses

    def _how(self) -> dict[str, Any]:
        """How every scheme back-propagates: scaled as the update expects it, gradients summed once."""
        # Gradients are averaged over the processes, but losses are shares that add up.
        n, no_sync = self.processes.size, self.processes.no_sync(self.wrapped)
        return {"scale": lambda value: self.scaler.scale(value * n), "no_sync": no_sync}

    def _contrast_gradients(self, batch: Batch, token_losses: TokenLosses) -> dict[str, Tensor]:
        def loss(h: Tensor, h_plus: Tensor) -> Tensor:
            views = self.processes.gather(h), self.processes.gather(h_plus)
            return info_nce(*views, self.temperature) * self.settings.weight("contrast")

        how = self._how()
        if self.row.contrast == "end_to_end":
            losses = end_to_end(self.encode, batch.chunks, loss, extra=token_losses, scale=how["scale"])
        else:
            fitting = max(1, self.settings.token_budget // batch.largest)
            losses = divide_and_conquer(
                self.encode,
                batch.chunks,
                loss,
                extra=token_losses,
                keep_graphs=fitting,
                watch=self.model,
                **how,
            )
        losses["contrast"] /= self.processes.size  # every process has the whole of it, and they are summed
        return losses

    def _moco_gradients(
        self, moco: MomentumContrast, batch: Batch, token_losses: TokenLosses
    ) -> dict[str, Tensor]:
        keys: list[Tensor] = []

        def losses_of(chunk: MaskedCells, encoded: tuple[Tensor, Outputs]) -> dict[str, Tensor]:
            queries, outputs = encoded
            self._count(chunk, backward=False)
            with torch.no_grad(), self._autocast():
                keys.append(moco.model(outputs[0])[0])
            share = self.settings.weight("contrast") / batch.n_cells
            return token_losses(chunk, outputs) | {"contrast": moco.loss(queries, keys[-1]) * share}

        losses = accumulate(self.encode, batch.chunks, losses_of, **self._how())
        moco.coming = self.processes.gather(torch.cat(keys))
        return losses

    def update(self, batch: Batch, learning_rate: float) -> dict[str, float]:
        """The second part of a step: what the gradients change. It must not be broken off.

        Returns ``gradient_norm``, before clipping; raises :class:`NotFinite` before anything is updated.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.scaler.unscale_(self.optimiser)
        limit = self.settings.gradient_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.trained, limit).item()
        # With float16 the scaler passes such a step over and takes a smaller scale.
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise NotFinite(f"the norm of the gradient is {norm}", self._suspects(batch))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.moco is not None:
            self.moco.follow(self.model)
        return {"gradient_norm": norm}

    @torch.no_grad()
    def _suspects(self, batch: Batch) -> list[int]:
        """Corpus rows of the cells whose encoding alone is not finite."""
        rows: list[int] = []
        for chunk_rows, chunk in zip(batch.rows, batch.chunks, strict=True):
            cells = chunk.to(self.processes.device)
            states = self.model.encoder(cells.gene_ids, cells.bins, cells.mask)
            finite = (states.isfinite().all(2) | ~cells.mask).all(1)
            rows += chunk_rows[~finite.cpu().numpy()].tolist()
        return rows

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, buffers and optimiser state, for a checkpoint."""
        moco = self.moco.state_dict() if self.moco is not None else {}
        return (
            prefixed("model", self.model.state_dict())
            | prefixed("moco", moco)
            | prefixed("optimiser", optimiser_tensors(self.optimiser))
        )

    def load(self, tensors: dict[str, Tensor], scaler: dict[str, Any]) -> None:
        """Go back to where :meth:`tensors` and the scaler's state were taken."""
        self.model.load_state_dict(unprefixed("model", tensors))
        if self.moco is not None:
            self.moco.load_state_dict(unprefixed("moco", tensors))
        load_optimiser(self.optimiser, unprefixed("optimiser", tensors))
        self.scaler.load_state_dict(scaler)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The number type of the matrix products: ``auto`` is bfloat16 where the hardware has it, else float32.

    Raises :class:`UserError` for float16 on a CPU, where it is some 200 times slower than bfloat16.
    """
    if name == "float16" and device.type == "cpu":
        raise UserError("settings.precision: float16 runs on GPUs only; take bfloat16, float32 or auto")
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    in_hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type == "cpu" and in_hardware else torch.float32
