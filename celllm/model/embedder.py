"""An encoder with the tokeniser that it reads cells by, on a device: all that turns cells into vectors."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import Cells
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.encoder import Encoder
from celllm.model.heads import cell_embedding
from celllm.model.weights import load_encoder, save_encoder

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
    """

    encoder: Encoder
    tokeniser: Tokeniser
    meta: Mapping[str, Any] = field(default_factory=dict)

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


def find_device(name: str | torch.device = "auto") -> torch.device:
    """A device by name: ``auto`` is this process's CUDA device where there is one, else the CPU.

    Raises
    ------
    UserError
        For CUDA where there is none, and for a name that PyTorch does not know.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {name} asked for, but PyTorch finds no CUDA device; use 'cpu' or 'auto'")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(name)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device: expected auto, cpu, cuda or cuda:<number>, got {name!r}") from error
