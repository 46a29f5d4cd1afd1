"""Trained encoders by the hash of what made them, shared between runs: nothing is trained twice.

A folder of the store is named by the SHA-256 of the row, the settings that decide, the corpus, the gene list,
the gene vectors, the kind of device and of numbers, the version of PyTorch and the source of the training. It
may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from celllm.errors import UserError
from celllm.io import atomic, write_json
from celllm.model.embedder import Embedder

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
# What decides about a training, apart from its inputs.
SOURCES = ("corpus", "model", "training", "optimiser.py", "tensors.py")


@dataclass(frozen=True)
class Stored:
    """The place of one encoder.

    The folder holds ``encoder.safetensors``, ``metrics.csv`` and ``made_from.json`` once it is trained. Its
    name is the hash of ``made_from``, JSON values.
    """

    folder: Path
    made_from: Mapping[str, Any]

    @classmethod
    def of(cls, store: str | Path, **made_from: Any) -> "Stored":
        """The place in a store of what is made from these JSON values by this program."""
        made_from = {**made_from, "torch": torch.__version__, "source_sha256": _source_sha256()}
        text = json.dumps(made_from, sort_keys=True)
        return cls(Path(store, hashlib.sha256(text.encode()).hexdigest()), made_from)

    def read(self) -> Embedder | None:
        """The encoder, if it is there and whole."""
        file = self.folder / "encoder.safetensors"
        try:
            return Embedder.read(file, device="cpu") if file.is_file() else None
        except UserError as error:
            log.warning("%s; trained again", error)
            return None

    def take(self, model: Mapping[str, Any], out: str | Path, metrics: str | Path) -> bool:
        """Write the encoder, as that of this row, and its table of steps; False if it is not there."""
        embedder = self.read()
        if embedder is None:
            return False
        with atomic(metrics) as partial:
            shutil.copyfile(self.folder / "metrics.csv", partial)
        replace(embedder, meta={**embedder.meta, "model": model}).write(out)
        log.info("%s: trained before, from %s", out, self.folder)
        return True

    def keep(self, out: str | Path, metrics: str | Path) -> None:
        """Put a trained encoder there, complete."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self.folder.parent) as name:
            partial = Path(name, self.folder.name)
            partial.mkdir()
            shutil.copyfile(out, partial / "encoder.safetensors")
            shutil.copyfile(metrics, partial / "metrics.csv")
            write_json(partial / "made_from.json", self.made_from)
            shutil.rmtree(self.folder, ignore_errors=True)  # one that was damaged
            try:
                os.replace(partial, self.folder)
            except OSError as error:  # another run was first
                log.info("%s: not stored (%s)", self.folder, error.strerror)


@cache
def _source_sha256() -> str:
    digest = hashlib.sha256()
    for place in SOURCES:
        path = PACKAGE / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
