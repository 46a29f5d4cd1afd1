"""The encoder of a model's row, with the tokeniser that it reads cells by."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from celllm.cells.genes import Vocabulary
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model import Encoder, load_encoder
from celllm.settings import fill
from celllm.training.model_row import ModelRow, read_tokeniser


def read_encoder(
    file: str | Path | None, row: Mapping[str, Any], vocabulary: Vocabulary
) -> tuple[Encoder, Tokeniser]:
    """Read a pre-trained encoder, or make the untrained one of a row that says ``pretrained: false``.

    Raises
    ------
    UserError
        For an encoder that is missing, damaged or of another gene list.
    """
    if file is None:
        return _untrained(row, vocabulary)
    encoder, meta = load_encoder(file, vocabulary.sha256)
    return encoder, read_tokeniser(meta)


def _untrained(row: Mapping[str, Any], vocabulary: Vocabulary) -> tuple[Encoder, Tokeniser]:
    """An encoder of the row's size as pre-training would start it, always the same one."""
    if row.get("pretrained", True):
        raise UserError(f"model {row.get('name')}: no encoder; pass --encoder, or say pretrained: false")
    model = fill(ModelRow, {key: value for key, value in row.items() if key != "pretrained"}, "model")
    tokens = asdict(model.token_settings)
    if tokens.pop("n_genes") is not None:
        raise UserError("model.tokens.n_genes: the genes are chosen by the pre-training cells; drop it")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        encoder = Encoder(model.encoder_config(len(vocabulary)))
    return encoder, Tokeniser(len(vocabulary), **tokens)
