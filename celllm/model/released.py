"""The authors' released weights, as a model folder of this package.

Facts of the layout, from the released code (PharMolix/OpenBioMed, v0.1): a ``.pth`` file with the tensors
under ``model_state_dict``. ``token_emb`` holds the eight expression tokens; ``pos_emb.emb`` the gene vectors
of a ``gene2vec`` array with a row of ones for [CLS] and one of zeros for [PAD] behind them;
``performer.net.layers.<i>.0`` the attention of layer i behind its norm, ``.1`` the feed-forward part;
``norm`` the last norm and ``to_out`` the head of masked expressions. A cell keeps its first 6,000 tokens in
gene order, [CLS] among them, and nothing is dropped out.
"""

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from celllm.cells.genes import SymbolMap, Vocabulary
from celllm.corpus.tokens import N_TOKENS, Tokeniser
from celllm.errors import UserError, one_line
from celllm.io import reading, sha256, write_csv, write_text
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.folder import describe, new_folder
from celllm.model.settings import AttentionKind, EncoderConfig

log = logging.getLogger(__name__)

LENGTH = 6000
"""Tokens of a cell, [CLS] among them."""
# In a layer: their name -> ours; the projections to q, k and v are joined.
_LAYER = {
    "0.norm.weight": "attention_norm.weight",
    "0.norm.bias": "attention_norm.bias",
    "0.fn.to_out.weight": "attention.to_out.weight",
    "0.fn.to_out.bias": "attention.to_out.bias",
    "0.fn.fast_attention.projection_matrix": "attention.projection",
    "1.norm.weight": "ff_norm.weight",
    "1.norm.bias": "ff_norm.bias",
    "1.fn.fn.w1.weight": "ff.w1.weight",
    "1.fn.fn.w1.bias": "ff.w1.bias",
    "1.fn.fn.w2.weight": "ff.w2.weight",
    "1.fn.fn.w2.bias": "ff.w2.bias",
}
_QKV = tuple(f"0.fn.to_{name}.weight" for name in "qkv")
# What becomes of the tensors outside the layers.
_OTHERS = {
    "token_emb.weight": "embedding.expression.weight",
    "pos_emb.emb.weight": "equal to gene2vec; the row of [CLS]: embedding.cls",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
    "to_out.weight": "not used: head of masked expressions, no part of the encoder",
    "to_out.bias": "not used: head of masked expressions, no part of the encoder",
    "performer.calls_since_last_redraw": "not used: counter of the training",
}


def run_convert_released(
    file: str | Path,
    /,
    gene2vec: str | Path,
    names: str | Path,
    out: str | Path,
    genes: str | Path | None = None,
    aliases: str | Path | None = None,
    attention: AttentionKind = "favor",
) -> None:
    """The authors' released weights -> a model folder, with a line on every tensor.

    Parameters
    ----------
    file
        Their ``.pth``. Tensors are read and nothing else: a file that holds other objects is refused.
    gene2vec
        Their array of gene vectors, ``.npy``, genes x dimensions.
    names
        Names of these genes, one a line, in the order of the array.
    out
        The folder, with ``conversion.csv``: what became of each tensor.
    genes
        The ``genes.tsv`` of a run whose tables the model is to stand in. Genes of the run that the model
        lacks get a vector of zeros. Without it, the names make the vocabulary.
    aliases
        The ``aliases.tsv`` beside it: other names of the genes.
    attention
        ``favor`` (without the influence of padding), or ``released``, as in the authors' code.

    Raises
    ------
    UserError
        For files of another layout or of unequal numbers of genes, and a folder that exists.
    """
    state = read_released(file)
    vectors = _vectors(gene2vec, state, str(file))
    vocabulary, table = _into_vocabulary(vectors, names, genes, aliases)
    encoder, told = converted(state, table, attention, str(file))
    meta = {
        "model": {"name": "celllm_released", "title": "CellLM, released weights"},
        "genes_sha256": vocabulary.sha256,
        "released": {Path(path).name: sha256(path) for path in (file, gene2vec, names)},
    }
    tokeniser = Tokeniser(len(vocabulary), max_length=LENGTH, keep="first")
    embedder = Embedder(encoder, tokeniser, meta)
    with new_folder(out) as folder:
        embedder.write(folder / "model.safetensors")
        vocabulary.write(folder / "genes.tsv")
        if aliases is not None:
            (folder / "aliases.tsv").write_bytes(Path(aliases).read_bytes())
        write_csv(folder / "conversion.csv", ("tensor", "shape", "became"), told)
        write_text(folder / "README.md", _CARD.format(n=len(vocabulary), known=int(table.any(1).sum())))
        describe(folder, embedder)
    for name, shape, became in told:
        log.info("%s (%s): %s", name, shape, became)


_CARD = """\
# CellLM, released weights

The authors' weights, converted by `celllm convert-released`; `conversion.csv` says what became of each
tensor, `config.json` names the files by their SHA-256. {known:,} of {n:,} genes have a vector of the
authors', the others zeros. Training data, licence and limits are the authors': https://github.com/PharMolix/OpenBioMed.
"""


def read_released(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file under their names in the released code.

    A prefix of all names (``module.``, ``encoder.``) is taken away.

    Raises :class:`UserError` for a file that is missing, damaged, holds objects, or has no ``token_emb``.
    """
    try:
        with reading(path):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = one_line(error)[:160]
        raise UserError(f"{path}: not a file of tensors alone; nothing else is read ({reason})") from error
    state = content.get("model_state_dict", content) if isinstance(content, Mapping) else {}
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    first = next((name for name in tensors if name.endswith("token_emb.weight")), None)
    if first is None:
        there = ", ".join(list(map(str, state))[:5]) or "nothing"
        raise UserError(f"{path}: no token_emb.weight under model_state_dict; found {there}")
    prefix = first.removesuffix("token_emb.weight")
    return {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}


def _vectors(path: str | Path, state: Mapping[str, Tensor], file: str) -> Tensor:
    """Gene vectors of the array, which must be those of the weights where these hold them."""
    with reading(path, "not an array in NumPy's format ({})", ValueError, OSError, EOFError):
        array = np.load(path, allow_pickle=False)
    dim = state["token_emb.weight"].shape[-1]
    if array.ndim != 2 or array.shape[1] != dim or array.dtype.kind != "f" or not np.isfinite(array).all():
        shape = " x ".join(map(str, array.shape))
        raise UserError(f"{path}: expected finite numbers, genes x {dim}, found {array.dtype} of {shape}")
    vectors = torch.from_numpy(array.astype(np.float32))
    stored = state.get("pos_emb.emb.weight")
    if stored is not None and (
        len(stored) != len(vectors) + 2 or not torch.allclose(stored[:-2].float(), vectors, atol=1e-6)
    ):
        raise UserError(
            f"{path}: other gene vectors than pos_emb of {file}, which has {len(stored) - 2} genes; expected "
            "the array that the weights were trained with"
        )
    return vectors


def _into_vocabulary(
    vectors: Tensor, path: str | Path, genes: str | Path | None, aliases: str | Path | None
) -> tuple[Vocabulary, Tensor]:
    """The vocabulary of the folder and its gene vectors, zeros where the model has none."""
    with reading(path):
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != len(vectors):
        raise UserError(
            f"{path}: {len(names)} names for {len(vectors)} gene vectors; expected one a line, in their order"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: the gene '{twice}' appears twice; expected distinct names")
    if genes is None:
        return Vocabulary(tuple(names), ("",) * len(names)), vectors
    vocabulary = Vocabulary.read(genes)
    found = SymbolMap.read(aliases, vocabulary)
    table, n_used = torch.zeros(len(vocabulary), vectors.shape[1]), 0
    ids = found.genes(names)
    # Approved symbols last: of two names of a gene its own wins.
    approved = np.array([name in vocabulary.index_of for name in names])
    for row in np.argsort(approved, kind="stable"):
        if ids[row] >= 0:
            table[ids[row]], n_used = vectors[row], n_used + 1
    if not n_used:
        raise UserError(f"{genes}: none of its genes is among the names ({', '.join(names[:3])} ...)")
    n_without = len(vocabulary) - len(np.unique(ids[ids >= 0]))
    log.info(
        "%d of %d names are genes of %s; %d of its genes get zeros", n_used, len(names), genes, n_without
    )
    return vocabulary, table


def converted(
    state: Mapping[str, Tensor], table: Tensor, attention: AttentionKind, file: str
) -> tuple[Encoder, list[tuple[str, str, str]]]:
    """An encoder with these tensors, and (tensor, shape, what it became) for each of them.

    Raises :class:`UserError` naming a tensor that is missing, or one of the layers that the encoder has no
    place for.
    """

    def tensor(name: str) -> Tensor:
        if name not in state:
            raise UserError(f"{file}: {name} is missing; expected the layout of the released CellLM")
        return state[name]

    n_tokens, dim = state["token_emb.weight"].shape
    if n_tokens != N_TOKENS:
        raise UserError(f"{file}: {n_tokens} expression tokens, CellLM has {N_TOKENS}; scBERT's weights?")
    layers = "performer.net.layers."
    n_features, dim_head = tensor(f"{layers}0.0.fn.fast_attention.projection_matrix").shape
    inner, wide = (len(tensor(f"{layers}0.{name}")) for name in (_QKV[0], "1.fn.fn.w1.weight"))
    numbers = (re.fullmatch(rf"{re.escape(layers)}(\d+)\..+", name) for name in state)
    config = EncoderConfig(
        n_genes=len(table),
        dim=dim,
        depth=1 + max(int(found[1]) for found in numbers if found),
        heads=max(1, inner // dim_head),
        dim_head=dim_head,
        ff_mult=max(1, wide // dim),
        dropout=0.0,
        attention=attention,
        cls_vector="ones",
        n_features=n_features,
    )
    stored = state.get("pos_emb.emb.weight")
    ours = {
        "embedding.genes.weight": torch.cat([table, torch.zeros(1, dim)]),
        "embedding.expression.weight": state["token_emb.weight"],
        "embedding.cls": torch.ones(dim) if stored is None else stored[-2],
        **{name: tensor(name) for name in ("norm.weight", "norm.bias")},
    }
    became = dict(_OTHERS)
    for layer in range(config.depth):
        theirs, mine = f"{layers}{layer}.", f"layers.{layer}."
        if attention != "released":
            joined = f"{mine}attention.to_qkv.weight"
            ours[joined] = torch.cat([tensor(theirs + name) for name in _QKV])
            became |= {f"{theirs}0.fn.to_{part}.weight": f"{joined} ({part})" for part in "qkv"}
        for name in (*_LAYER, *(_QKV if attention == "released" else ())):
            if attention == "softmax" and "projection" in name:
                became[theirs + name] = "not used: exact attention has no random features"
                continue
            inside = attention == "released" and name.startswith("0.fn.")
            place = f"attention.inner.{name.removeprefix('0.fn.')}" if inside else _LAYER[name]
            became[theirs + name] = mine + place
            ours[mine + place] = tensor(theirs + name)
    encoder = Encoder(config, table)
    wanted = encoder.state_dict()
    for name, value in ours.items():
        if value.shape != wanted[name].shape:
            raise UserError(f"{file}: {name}: {_shape(value)} where {_shape(wanted[name])} is expected")
    encoder.load_state_dict({name: value.float() for name, value in ours.items()})
    for name in state:
        if name not in became:
            raise UserError(f"{file}: {name}: the encoder has no place for it; is it CellLM's layout?")
    return encoder.eval(), [(name, _shape(value), became[name]) for name, value in state.items()]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "1"
