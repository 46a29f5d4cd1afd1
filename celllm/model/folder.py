"""A model on disk: a folder that says everything about it, or an encoder among the files of its run."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from celllm import __version__
from celllm.cells.genes import SymbolMap, Vocabulary, gene_list_of
from celllm.errors import UserError
from celllm.io import atomic, read_json, sha256, write_json
from celllm.model.embedder import Embedder
from celllm.model.settings import WEIGHTS

FORMAT = "celllm-model-1"


def load(model: str | Path, device: str | torch.device = "auto") -> Embedder:
    """Read a model, ready to embed cells.

    Parameters
    ----------
    model
        A folder with ``model.safetensors``, ``genes.tsv`` and ``aliases.tsv``, as ``celllm export`` writes;
        a folder ``checkpoints/<name>`` of a run, whose gene list is read from ``prepared/``; the file of an
        encoder in either; or the name of a model of the Hugging Face hub that has been downloaded.
    device
        ``auto`` (a CUDA device where there is one), ``cpu``, ``cuda`` or ``cuda:<number>``.

    Raises
    ------
    UserError
        For a model or gene list that is missing or damaged, and a gene list of another model.
    """
    file = _weights(Path(model))
    genes = gene_list_of(file)
    vocabulary = Vocabulary.read(genes)
    embedder = Embedder.read(file, vocabulary.sha256, device)
    aliases = genes.with_name("aliases.tsv")
    config = file.parent / "config.json"
    if config.is_file():
        written = read_json(config)
        digests = written.get("sha256") if isinstance(written, dict) else None
        if not isinstance(digests, dict):
            raise UserError(f"{config}: no sha256 in it; expected what `celllm export` writes")
        for name, digest in digests.items():
            if name != file.name and sha256(file.parent / name) != digest:
                raise UserError(f"{file.parent / name}: changed since the model was exported")
    symbols = SymbolMap.read(aliases, vocabulary) if aliases.is_file() else SymbolMap(vocabulary, ())
    return replace(embedder, symbols=symbols)


def run_take_encoder(file: str | Path, /, genes: str | Path, out: str | Path) -> None:
    """An encoder that was trained elsewhere -> the same among the encoders of a run.

    Parameters
    ----------
    file
        A model folder, or the file of its encoder.
    genes
        The ``genes.tsv`` of the run.

    Raises
    ------
    UserError
        For an encoder that is missing, damaged or of another gene list.
    """
    weights = _weights(Path(file))
    Embedder.read(weights, Vocabulary.read(genes).sha256, "cpu")
    with atomic(out) as partial:
        shutil.copyfile(weights, partial)


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    folder = path if path.is_dir() else _from_hub(str(path))
    if folder is None:
        raise UserError(
            f"{path}: no such file or folder, and no model of that name among those downloaded from a hub"
        )
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: no {' or '.join(WEIGHTS)} in it; expected what `celllm export` writes")


def _from_hub(name: str) -> Path | None:
    """Folder of a model in the local cache of the Hugging Face hub; nothing is downloaded."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return None
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub") / f"models--{name.replace('/', '--')}"
    branch = cache / "refs" / "main"
    revision = branch.read_text().strip() if branch.is_file() else ""
    folder = cache / "snapshots" / revision
    return folder if revision and folder.is_dir() else None


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Yield a folder to fill, which then stands at ``out``, complete; one that exists is refused."""
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already; remove it or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.parent) as name:
        partial = Path(name) / out.name
        partial.mkdir()
        yield partial
        partial.rename(out)


def describe(folder: Path, embedder: Embedder) -> dict[str, Any]:
    """Write ``config.json``: shape, tokeniser, training, and the digests of the model's other files."""
    files = [folder / name for name in ("aliases.tsv", "genes.tsv", "model.safetensors")]
    config = {
        "format": FORMAT,
        "celllm": __version__,
        "encoder": embedder.encoder.config.model_dump(),
        "tokeniser": embedder.tokeniser.to_json(),
        "training": dict(embedder.meta),
        "sha256": {file.name: sha256(file) for file in files if file.is_file()},
    }
    write_json(folder / "config.json", config)
    return config
