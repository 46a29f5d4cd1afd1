"""An encoder with the tokeniser that it reads cells by, on a device: all that turns cells into vectors."""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from celllm.cells.genes import SymbolMap
from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import Cells, tokens_of
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.encoder import Encoder
from celllm.model.heads import cell_embedding
from celllm.model.weights import load_encoder, save_encoder

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

How = Literal["mean", "cls"]


@dataclass(frozen=True)
class Embedder:
    """An encoder, its tokeniser, and what its file says of it.

    Attributes
    ----------
    encoder : Encoder
        On the device to be used.
    tokeniser : Tokeniser
        How the encoder reads cells.
    meta : mapping
        JSON values: model row, digest of the gene list, steps, corpus.
    symbols : SymbolMap, optional
        Its genes and their other names; without them it reads only cells that are tokens already.
    """

    encoder: Encoder
    tokeniser: Tokeniser
    meta: Mapping[str, Any] = field(default_factory=dict)
    symbols: SymbolMap | None = None

    @classmethod
    def read(
        cls, path: str | Path, genes_sha256: str | None = None, device: str | torch.device = "auto"
    ) -> "Embedder":
        """Read what :meth:`write` or pre-training wrote, in evaluation mode.

        Parameters
        ----------
        path
            A ``.safetensors`` file.
        genes_sha256
            Digest of the gene list in use; an encoder of another list is refused.
        device
            See :func:`find_device`.

        Raises
        ------
        UserError
            For a file that is missing, damaged or not an encoder, or of another gene list.
        """
        encoder, meta = load_encoder(path, genes_sha256)
        if "tokeniser" not in meta:
            raise UserError(f"{path}: no tokeniser in it; expected what 'celllm pretrain' writes")
        return cls(encoder, Tokeniser.from_json(meta["tokeniser"]), meta).to(device)

    def write(self, path: str | Path) -> None:
        """Write encoder, tokeniser and ``meta`` as one ``.safetensors`` file, atomically."""
        save_encoder(path, self.encoder, {**self.meta, "tokeniser": self.tokeniser.to_json()})

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.encoder.norm.weight.device

    def to(self, device: str | torch.device) -> "Embedder":
        """The embedder on a device; see :func:`find_device`."""
        return replace(self, encoder=self.encoder.to(find_device(device)))

    @property
    def name(self) -> str:
        """Of the model's row."""
        return str(self.meta.get("model", {}).get("name", "model"))

    def embed(
        self,
        adata: "AnnData | str | Path",
        how: How = "mean",
        layer: str | None = None,
        gene_key: str | None = None,
        token_budget: int = 0,
        progress: bool = True,
    ) -> NDArray[np.float32]:
        """Embeddings of all cells, (n_cells, dim) in their order.

        Parameters
        ----------
        adata
            Cells x genes with raw counts somewhere, in memory, backed or a view, or an ``.h5ad`` file; never
            changed. Of what is on disk a few thousand cells are in memory at a time (of a view of backed data
            all).
        how
            ``mean`` over the vectors of a cell's genes, or ``cls``, the vector of [CLS].
        layer
            Where the counts stand: name of a layer, ``X`` or ``raw``; without it, where ``celllm check``
            finds them.
        gene_key
            Column of ``var`` with symbols or Ensembl ids; without it, what names most genes.
        token_budget
            Tokens of a pass, padding counted; 0: what suits the device.
        progress
            Show a progress bar.

        Raises
        ------
        UserError
            For no cells, no raw counts, or no gene of the encoder.
        """
        parts = [np.empty((0, self.encoder.config.dim), dtype=np.float32)]
        parts += [x for _, x in self.blocks(adata, how, layer, gene_key, token_budget, progress)]
        return np.concatenate(parts)

    def blocks(
        self,
        adata: "AnnData | str | Path",
        how: How = "mean",
        layer: str | None = None,
        gene_key: str | None = None,
        token_budget: int = 0,
        progress: bool = True,
        rows: NDArray[np.int64] | None = None,
    ) -> Iterator[tuple["csr_matrix", NDArray[np.float32]]]:
        """Raw counts (cells, genes) and embeddings (cells, dim), a few thousand cells at a time.

        Genes are those of the encoder. Parameters and errors are those of :meth:`embed`; ``rows``, ascending,
        chooses cells.
        """
        from tqdm.auto import tqdm

        from celllm.cells.counts import raw_counts

        if how not in get_args(How):
            raise UserError(f"how: expected 'mean' or 'cls', got {how!r}")
        if self.symbols is None:
            raise UserError("this encoder has no gene list; load it with celllm.load")
        counts = raw_counts(adata, self.symbols, layer, gene_key)
        rows = np.arange(len(counts.cells)) if rows is None else rows
        self.encoder.eval()
        start = n_empty = 0
        with tqdm(total=len(rows), unit="cell", desc=counts.summary(), disable=not progress) as bar:
            for block in counts.blocks():
                stop = start + block.shape[0]
                low, high = np.searchsorted(rows, (start, stop))
                chosen, start = block[rows[low:high] - start], stop
                if low == high:
                    continue
                cells = tokens_of(chosen)
                vectors = self.embed_cells(cells, token_budget or default_budget(self.device))[how]
                n_empty += int((cells.lengths == 0).sum())
                yield chosen, vectors.numpy().astype(np.float32)
                bar.update(len(vectors))
        if n_empty:
            log.warning("%d cells express no gene of the model; their embeddings mean nothing", n_empty)

    @torch.no_grad()
    def embed_cells(self, cells: Cells, token_budget: int) -> dict[How, Tensor]:
        """Both embeddings of all cells, (n_cells, dim) float64 in the order of the cells.

        Dropout is on when the encoder is in training mode. A pass takes ``token_budget`` tokens, padding
        counted.
        """
        shape = cells.n_cells, self.encoder.config.dim
        found: dict[How, Tensor] = {how: torch.empty(shape, dtype=torch.float64) for how in get_args(How)}
        for rows in length_buckets(self.tokeniser.lengths(cells), token_budget):
            batch = self.tokeniser(cells.take(rows)).to(self.device)
            states = self.encoder(*batch)
            for how, table in found.items():
                table[torch.from_numpy(rows)] = cell_embedding(states, batch.mask, how).double().cpu()
        return found


def default_budget(device: torch.device) -> int:
    """Tokens of a pass without gradient: on a CPU it should stay in the cache (8192 are a third slower)."""
    return 2048 if device.type == "cpu" else 65536


def _granted_gpu(environ: Mapping[str, str]) -> str:
    """What a scheduler or a user has set to grant a GPU, as ``NAME=value``; empty when nothing is."""
    none = {"", "-1", "NoDevFiles", "none"}
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        if (value := environ.get(name, "")) not in none:
            return f"{name}={value}"
    for name in ("SLURM_GPUS", "SLURM_GPUS_ON_NODE"):  # numbers of GPUs, where 0 is none
        if (value := environ.get(name, "")) not in none | {"0"}:
            return f"{name}={value}"
    return ""


def find_device(name: str | torch.device = "auto") -> torch.device:
    """A device by name: ``auto`` is this process's CUDA device where there is one, else the CPU.

    Raises
    ------
    UserError
        For CUDA where there is none, for ``auto`` where a scheduler has granted a GPU that PyTorch does not
        see (days on a CPU, and nobody would know), and for a name that PyTorch does not know.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and (granted := _granted_gpu(os.environ)):
            raise UserError(
                f"device: {granted}, but PyTorch {torch.__version__} finds no CUDA device: install a build "
                f"for this machine's CUDA, ask for no GPU, or unset {granted.partition('=')[0]}"
            )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {name} asked for, but PyTorch finds no CUDA device; use 'cpu' or 'auto'")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(name)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device: expected auto, cpu, cuda or cuda:<number>, got {name!r}") from error
