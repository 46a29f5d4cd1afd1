"""Output of the frozen lower layers of an encoder for each cell: computed once, kept without padding.

Layers below the first trained one never change and run without dropout, so their output for a cell is the
same in every epoch, fold and protocol. Attention is exact under padding, so the batch does not matter either.
Where the states of all cells fit in memory or on disk, they are computed at once, in chunks that depend on
nothing but the cells: results are then the same to the last bit from memory and from disk. Their number type
depends on their size alone, not on the room that a machine has for them.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from celllm import __version__
from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import Cells
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.embedder import Embedder, default_budget
from celllm.training.settings import FinetuneSettings, ResponseSettings
from celllm.training.state_cache import MIB, StateCache

log = logging.getLogger(__name__)

FLOAT32_MIB = 8192
"""States that are larger in float32 are kept in bfloat16, unless the settings name a number type."""


@dataclass(frozen=True)
class Store:
    """How the states of cells are kept."""

    # Memory for states on the device; cells beyond it are computed whenever they are asked for.
    limit_mib: int = 4096
    # Of the states; bfloat16 halves them, at three significant digits. None: by FLOAT32_MIB.
    dtype: torch.dtype | None = None
    token_budget: int = 2048  # tokens, padding included, that pass through the frozen layers at a time
    folder: str = ""  # a StateCache on disk, shared by all runs; empty: none
    folder_mib: int = 0  # its size at most
    # Disk for states beyond `limit_mib`, in a file without a name in the folder for temporary files: it is
    # gone with the process, however that ends.
    spill_mib: int = 0


@dataclass(frozen=True)
class States:
    """Input of the first trained layer for some cells, padded to the longest."""

    x: Tensor  # (B, L, dim) float32, zero at padded places
    gene_ids: Tensor  # (B, L) int64, [PAD] at padded places
    mask: Tensor  # (B, L) bool, True at real tokens


class FrozenStates:
    """States of the cells of one data set after the first ``n_frozen`` layers of an encoder.

    The states are on the device of the embedder, whose encoder is put into evaluation mode. Where
    ``n_frozen`` is all layers, the final norm is applied too.
    """

    def __init__(self, embedder: Embedder, cells: Cells, n_frozen: int, store: Store = Store()) -> None:
        self.encoder, self.tokeniser = embedder.encoder.eval(), embedder.tokeniser
        self.cells, self.n_frozen, self.store = cells, n_frozen, store
        self.lengths = self.tokeniser.lengths(cells)
        self.n_computed = 0
        n_values = int((self.lengths + 1).sum()) * self.encoder.config.dim
        small = 4 * n_values <= FLOAT32_MIB * MIB
        self.dtype = store.dtype or (torch.float32 if small else torch.bfloat16)
        self._stops = np.cumsum(self.lengths + 1)
        self._room = store.limit_mib * MIB
        self._kept: dict[int, tuple[Tensor, Tensor]] | None = None
        self._all: Tensor | int | None = None  # the bytes of all cells, or the file that they are in

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.encoder.norm.weight.device

    def chunks(self, rows: NDArray[np.int64], token_budget: int) -> list[NDArray[np.int64]]:
        """Cut ``rows`` into chunks of cells of similar length; a chunk holds positions in ``rows``."""
        return length_buckets(self.lengths[rows], token_budget)

    def take(self, rows: NDArray[np.int64]) -> States:
        """States of these cells, in this order; those not kept yet are computed now."""
        if self._kept is None:
            n_bytes = int(self._stops[-1]) * (4 + self.encoder.config.dim * self.dtype.itemsize)
            flat: Tensor | int | None = None
            if self.store.folder:
                cache = StateCache(Path(self.store.folder), self.store.folder_mib)
                flat = cache.get(self._key(), n_bytes, self._write_all)
            if flat is None and n_bytes <= self._room:
                flat = torch.empty(n_bytes, dtype=torch.uint8, device=self.device)
                self._write_all(flat)
            elif flat is None and self.n_frozen:
                flat = self._spill(n_bytes)
            self._kept, self._all = {}, flat
        if self._all is not None:
            found = [self._read(self._all, row) for row in rows.tolist()]
        else:
            kept = self._kept
            missing = [row for row in rows.tolist() if row not in kept]
            fresh = dict(self._compute(np.array(missing, dtype=int)))
            found = [fresh[row] if row in fresh else kept[row] for row in rows.tolist()]
            for row, states in fresh.items():
                size = sum(tensor.numel() * tensor.element_size() for tensor in states)
                if size <= self._room:
                    self._room -= size
                    kept[row] = states
        pad, genes = self.tokeniser.n_genes + 1, [genes for _, genes in found]
        gene_ids = pad_sequence(genes, batch_first=True, padding_value=pad).to(self.device).long()
        x = pad_sequence([x for x, _ in found], batch_first=True).to(self.device)
        return States(x.float(), gene_ids, gene_ids != pad)

    def _spill(self, n_bytes: int) -> int | None:
        """States of all cells in a file of this process; None, and the cost, where there is no room.

        It is read cell by cell, not mapped: a mapped page counts as memory of the process.
        """
        gib, folder = n_bytes / 2**30, Path(tempfile.gettempdir())
        obstacle = self._obstacle(n_bytes, folder)
        if obstacle:
            trained = max(1, len(self.encoder.layers) - self.n_frozen)
            log.warning(
                "frozen states: %.1f GiB are not kept (%s): %d layers run again for each cell in each epoch, "
                "which takes some %.1f times as long",
                *(gib, obstacle, self.n_frozen, 1 + self.n_frozen / 3 / trained),
            )
            return None
        log.info("frozen states: %.1f GiB, %s, in %s", gib, self.dtype, folder)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        os.posix_fallocate(self._file.fileno(), 0, n_bytes)
        self._write_all(self._file.fileno())
        return self._file.fileno()

    def _obstacle(self, n_bytes: int, folder: Path) -> str:
        if n_bytes > self.store.spill_mib * MIB:
            return f"store_mib is {self.store.limit_mib}, spill_mib {self.store.spill_mib}"
        if is_in_memory(folder):
            return f"{folder} is in memory; set TMPDIR to a folder on a disk"
        free = shutil.disk_usage(folder).free
        enough = free > n_bytes + 1024 * MIB
        return "" if enough else f"{folder} has {free / 2**30:.0f} GiB; set TMPDIR to a larger disk"

    def expect(self, rows: NDArray[np.int64]) -> None:
        """Have the states of these cells read from disk meanwhile: they are asked for next."""
        if isinstance(self._all, int):
            for row in np.sort(rows):
                x, _ = self._places(row)
                os.posix_fadvise(self._all, x.start, x.stop - x.start, os.POSIX_FADV_WILLNEED)

    def _places(self, row: int) -> tuple[slice, slice]:
        """Bytes of a cell's states and of its gene ids among those of all cells, gene ids first."""
        stop, size = int(self._stops[row]), self.encoder.config.dim * self.dtype.itemsize
        start, first = stop - int(self.lengths[row]) - 1, 4 * int(self._stops[-1])
        return slice(first + size * start, first + size * stop), slice(4 * start, 4 * stop)

    def _read(self, flat: Tensor | int, row: int) -> tuple[Tensor, Tensor]:
        x, genes = (
            flat[place] if isinstance(flat, Tensor) else _read(flat, place) for place in self._places(row)
        )
        return x.view(self.dtype).view(-1, self.encoder.config.dim), genes.view(torch.int32)

    def _write_all(self, flat: Tensor | int) -> None:
        for row, states in self._compute(np.arange(len(self.lengths))):
            for place, tensor in zip(self._places(row), states, strict=True):
                content = tensor.reshape(-1).view(torch.uint8)
                if isinstance(flat, Tensor):
                    flat[place] = content
                else:
                    os.pwrite(flat, content.cpu().numpy().data, place.start)

    def _key(self) -> str:
        """SHA-256 of all that the states depend on: encoder, cells, tokeniser, layer, number type."""
        told = {
            "versions": [__version__, torch.__version__],
            "encoder": self.encoder.config.model_dump(),
            "tokeniser": self.tokeniser.to_json(),
            "n_frozen": self.n_frozen,
            "computed": [str(self.dtype), self.device.type, self.store.token_budget],
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
        ragged = self.cells.take(np.arange(len(self.lengths)))
        for array in (ragged.indptr, ragged.gene_ids, ragged.expression):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @torch.no_grad()
    def _compute(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        for chunk in self.chunks(rows, self.store.token_budget):
            batch = self.tokeniser(self.cells.take(rows[chunk])).to(self.device)
            x = self.encoder.run_layers(
                self.encoder.embed(batch.gene_ids, batch.bins), batch.mask, 0, self.n_frozen
            )
            x = self.encoder.norm(x) if self.n_frozen == len(self.encoder.layers) else x
            for i, (row, length) in enumerate(
                zip(rows[chunk].tolist(), batch.mask.sum(1).tolist(), strict=True)
            ):
                states = x[i, :length].to(self.dtype, copy=True), batch.gene_ids[i, :length].int()
                yield row, states
        self.n_computed += len(rows)


def _read(file: int, place: slice) -> Tensor:
    content = bytearray(place.stop - place.start)
    os.preadv(file, [content], place.start)
    return torch.frombuffer(content, dtype=torch.uint8)


def is_in_memory(folder: Path) -> bool:
    """Whether files there take memory, as in many a /tmp: Linux's list of mounts says so."""
    mounts = Path("/proc/mounts")
    lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines() if mounts.exists() else []
    kinds = {line.split()[1]: line.split()[2] for line in lines}
    place = folder.resolve()
    return next((kinds[str(p)] for p in (place, *place.parents) if str(p) in kinds), "") in ("tmpfs", "ramfs")


def freeze(
    embedder: Embedder, cells: Cells, settings: FinetuneSettings | ResponseSettings, n_above: int = 0
) -> FrozenStates:
    """Freeze the layers below the trained ones, which end ``n_above`` layers below the top.

    More layers to train than the encoder has are a :class:`UserError`.
    """
    depth, wanted = embedder.encoder.config.depth, settings.trainable_layers
    if not -1 <= wanted <= depth - n_above:
        raise UserError(f"settings.trainable_layers: expected -1 to {depth - n_above}, got {wanted}")
    token_budget = settings.token_budget or default_budget(embedder.device)
    dtype = None if settings.store_dtype == "auto" else getattr(torch, settings.store_dtype)
    folder = settings.cache, settings.cache_mib, settings.spill_mib
    store = Store(settings.store_mib, dtype, token_budget, *folder)
    return FrozenStates(embedder, cells, 0 if wanted == -1 else depth - n_above - wanted, store)


def genes_read(tokeniser: Tokeniser, genes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Genes that a cell can have a token of: those of the data set, or those of a full-vector tokeniser."""
    return tokeniser.genes if tokeniser.zeros and tokeniser.genes is not None else genes
