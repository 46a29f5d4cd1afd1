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
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from celllm.cells.genes import SymbolMap, Vocabulary
from celllm.corpus.tokens import N_TOKENS, Tokeniser
from celllm.errors import UserError
from celllm.io import sha256, write_csv, write_text
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder, EncoderConfig
from celllm.model.folder import describe, new_folder
from celllm.model.settings import AttentionKind

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
_UNUSED = {
    "to_out.weight": "head of masked expressions, no part of the encoder",
    "to_out.bias": "head of masked expressions, no part of the encoder",
    "performer.calls_since_last_redraw": "counter of the training",
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
    vocabulary, table = _into_vocabulary(vectors, _names(names, len(vectors)), genes, aliases)
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

    Raises
    ------
    UserError
        For a file that is missing, damaged, holds objects, or has no ``token_emb``.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
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
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not an array in NumPy's format ({' '.join(str(error).split())})") from error
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


def _names(path: str | Path, n: int) -> list[str]:
    try:
        names = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    names = [name.strip() for name in names if name.strip()]
    if len(names) != n:
        raise UserError(
            f"{path}: {len(names)} names for {n} gene vectors; expected one a line, in their order"
        )
    if len(set(names)) < n:
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: the gene '{twice}' appears twice; expected distinct names")
    return names


def _into_vocabulary(
    vectors: Tensor, names: list[str], genes: str | Path | None, aliases: str | Path | None
) -> tuple[Vocabulary, Tensor]:
    """The vocabulary of the folder and its gene vectors, zeros where the model has none."""
    if genes is None:
        return Vocabulary(tuple(names), ("",) * len(names)), vectors
    vocabulary = Vocabulary.read(genes)
    found = SymbolMap.read(aliases, vocabulary) if aliases else SymbolMap(vocabulary, ())
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

    Raises
    ------
    UserError
        Naming a tensor that is missing, or one of the layers that the encoder has no place for.
    """
    encoder = Encoder(_config(state, len(table), attention, file), table)
    ours, told = dict(_ours(state, table, attention, file)), []
    wanted = encoder.state_dict()
    for name, tensor in ours.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(f"{file}: {name}: {_shape(tensor)} where {_shape(wanted[name])} is expected")
    encoder.load_state_dict({name: tensor.float() for name, tensor in ours.items()})
    for name, tensor in state.items():
        became = _became(name, attention)
        if became is None:
            raise UserError(f"{file}: {name}: the encoder has no place for it; is it CellLM's layout?")
        told.append((name, _shape(tensor), became))
    return encoder.eval(), told


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "1"


def _config(state: Mapping[str, Tensor], n_genes: int, attention: AttentionKind, file: str) -> EncoderConfig:
    n_tokens, dim = state["token_emb.weight"].shape
    if n_tokens != N_TOKENS:
        raise UserError(f"{file}: {n_tokens} expression tokens, CellLM has {N_TOKENS}; scBERT's weights?")
    projection = _tensor(state, "performer.net.layers.0.0.fn.fast_attention.projection_matrix", file)
    inner = len(_tensor(state, "performer.net.layers.0.0.fn.to_q.weight", file))
    wide = len(_tensor(state, "performer.net.layers.0.1.fn.fn.w1.weight", file))
    n_features, dim_head = projection.shape
    return EncoderConfig(
        n_genes=n_genes,
        dim=dim,
        depth=1 + max(int(found[1]) for found in map(_of_layer, state) if found),
        heads=max(1, inner // dim_head),
        dim_head=dim_head,
        ff_mult=max(1, wide // dim),
        dropout=0.0,
        attention=attention,
        cls_vector="ones",
        n_features=n_features,
    )


def _of_layer(name: str) -> "re.Match[str] | None":
    return re.fullmatch(r"performer\.net\.layers\.(\d+)\.(.+)", name)


def _tensor(state: Mapping[str, Tensor], name: str, file: str) -> Tensor:
    if name not in state:
        raise UserError(f"{file}: {name} is missing; expected the layout of the released CellLM")
    return state[name]


def _ours(
    state: Mapping[str, Tensor], table: Tensor, attention: AttentionKind, file: str
) -> Iterator[tuple[str, Tensor]]:
    """Tensors of the encoder by their names there."""
    dim = table.shape[1]
    stored = state.get("pos_emb.emb.weight")
    yield "embedding.genes.weight", torch.cat([table, torch.zeros(1, dim)])
    yield "embedding.expression.weight", state["token_emb.weight"]
    yield "embedding.cls", torch.ones(dim) if stored is None else stored[-2]
    for name in ("norm.weight", "norm.bias"):
        yield name, _tensor(state, name, file)
    for layer in range(1 + max(int(found[1]) for found in map(_of_layer, state) if found)):
        theirs = f"performer.net.layers.{layer}."
        if attention != "released":
            joined = torch.cat([_tensor(state, theirs + name, file) for name in _QKV])
            yield f"layers.{layer}.attention.to_qkv.weight", joined
        for name in (*_LAYER, *(_QKV if attention == "released" else ())):
            place = _place(name, attention)
            if place is not None:
                yield f"layers.{layer}.{place}", _tensor(state, theirs + name, file)


def _place(name: str, attention: AttentionKind) -> str | None:
    """Where a tensor of a layer goes; None for random features in exact attention."""
    if attention == "released" and name.startswith("0.fn."):
        return f"attention.inner.{name.removeprefix('0.fn.')}"
    if attention == "softmax" and "projection" in name:
        return None
    return "attention.to_qkv.weight" if name in _QKV else _LAYER[name]


def _became(name: str, attention: AttentionKind) -> str | None:
    """What became of a tensor; None where there is no place for it."""
    if name in _UNUSED:
        return f"not used: {_UNUSED[name]}"
    if name == "token_emb.weight":
        return "embedding.expression.weight"
    if name == "pos_emb.emb.weight":
        return "equal to gene2vec; the row of [CLS]: embedding.cls"
    found = _of_layer(name)
    if found is None:
        return name if name in ("norm.weight", "norm.bias") else None
    if found[2] not in (*_LAYER, *_QKV):
        return None
    place = _place(found[2], attention)
    part = f" ({found[2][8]})" if found[2] in _QKV and attention != "released" else ""
    return f"layers.{found[1]}.{place}{part}" if place else "not used: exact attention has no random features"
