"""A row of config/models.yaml as pre-training reads it: the encoder, its cells, tokens and objectives."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.shards import Corpus
from celllm.corpus.tokens import LogBase, Tokeniser
from celllm.errors import UserError
from celllm.model import SIZES, Encoder, EncoderConfig
from celllm.model.embedder import Embedder
from celllm.settings import fill

Contrast = Literal["divide_and_conquer", "end_to_end", "moco", "none"]


@dataclass(frozen=True)
class Tokens:
    """How cells become tokens; see :class:`celllm.corpus.tokens.Tokeniser`."""

    zeros: bool = False
    n_genes: int | None = None  # with zeros: only the genes found in most cells of the corpus; null: all
    max_length: int = 6000
    keep: Literal["highest", "first"] = "highest"
    n_bins: int = 6
    log_base: LogBase = "e"


@dataclass(frozen=True)
class ModelRow:
    """A model's row. Its last fields name and print the model and have no part in the training."""

    size: (
        dict[str, Any] | str
    )  # fields of EncoderConfig (dim, depth, heads, dim_head ...), or a name of SIZES
    contrast: Contrast = "divide_and_conquer"
    tumour_task: bool = True
    cells: Literal["all", "normal"] = "all"
    attention: Literal["favor", "softmax", "released"] = "favor"
    tokens: dict[str, Any] = field(default_factory=dict)
    name: str = "model"
    title: str = ""
    paper_row: str = ""
    kind: str = "encoder"
    group: str = ""
    gene_embeddings: str = ""  # which file the workflow hands over

    def science(self) -> dict[str, Any]:
        """What decides about the training, defaults spelled out."""
        fields = {name: getattr(self, name) for name in ("contrast", "tumour_task", "cells", "attention")}
        return {"size": self.encoder_size, **fields, "tokens": asdict(self.token_settings)}

    @property
    def token_settings(self) -> Tokens:
        """The row's ``tokens``, checked."""
        tokens = fill(Tokens, self.tokens, "model.tokens")
        if tokens.n_genes is not None and not tokens.zeros:
            raise UserError("model.tokens.n_genes: only with zeros; without them each cell has its own genes")
        return tokens

    @property
    def encoder_size(self) -> dict[str, Any]:
        """Fields of EncoderConfig that the row's ``size`` gives."""
        if not isinstance(self.size, str):
            return self.size
        if self.size not in SIZES:
            raise UserError(f"model.size: expected one of {', '.join(SIZES)}, got {self.size!r}")
        return SIZES[self.size]

    def encoder_config(self, n_genes: int) -> EncoderConfig:
        """Shape of the row's encoder over a vocabulary of ``n_genes``."""
        values = {"attention": self.attention, **self.encoder_size, "n_genes": n_genes}
        return fill(EncoderConfig, values, "model.size")

    def rows(self, corpus: Corpus) -> NDArray[np.int64]:
        """The cells of the corpus that the model is trained on."""
        chosen = np.ones(corpus.n_cells, dtype=bool) if self.cells == "all" else corpus.tumour == 0
        if not chosen.any():
            raise UserError(f"model {self.name}: the corpus has no normal cell; add a source of normal cells")
        return np.flatnonzero(chosen)

    def tokeniser(self, n_genes: int, corpus: Corpus) -> Tokeniser:
        """The row's tokeniser; a subset of genes is chosen by the cells that the model is trained on."""
        tokens = self.token_settings
        genes = None
        if tokens.n_genes is not None and tokens.n_genes < n_genes:
            genes = commonest_genes(corpus, self.rows(corpus), n_genes, tokens.n_genes)
        return Tokeniser(
            n_genes,
            max_length=tokens.max_length,
            keep=tokens.keep,
            zeros=tokens.zeros,
            genes=genes,
            n_bins=tokens.n_bins,
            log_base=tokens.log_base,
        )

    def untrained(self, n_genes: int) -> Embedder:
        """An encoder as pre-training would start it, always the same one, on the CPU."""
        tokens = asdict(self.token_settings)
        if tokens.pop("n_genes") is not None:
            raise UserError("model.tokens.n_genes: the genes are chosen by the pre-training cells; drop it")
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(0)
            encoder = Encoder(self.encoder_config(n_genes))
        return Embedder(encoder, Tokeniser(n_genes, **tokens))


def commonest_genes(
    corpus: Corpus, rows: NDArray[np.int64], n_genes: int, n_kept: int, block: int = 8192
) -> NDArray[np.int64]:
    """Vocabulary indices of the genes expressed in most of the cells, ascending; of equals the first.

    Reads the cells once, ``block`` at a time.
    """
    counts = np.zeros(n_genes, dtype=np.int64)
    for start in range(0, len(rows), block):
        counts += np.bincount(corpus.take(rows[start : start + block]).gene_ids, minlength=n_genes)
    return np.sort(np.argsort(-counts, kind="stable")[:n_kept])


def read_embedder(
    file: str | Path | None, row: Mapping[str, Any], vocabulary: Vocabulary, device: str = "auto"
) -> Embedder:
    """Read a pre-trained encoder, or make the untrained one of a row that says ``pretrained: false``.

    Raises
    ------
    UserError
        For an encoder that is missing, damaged or of another gene list.
    """
    if file is not None:
        return Embedder.read(file, vocabulary.sha256, device)
    if row.get("pretrained", True):
        raise UserError(
            f"model {row.get('name')}: no encoder; name its file as `encoder`, or say pretrained: false"
        )
    model = fill(ModelRow, {key: value for key, value in row.items() if key != "pretrained"}, "model")
    return model.untrained(len(vocabulary)).to(device)
