"""Prepared data sets: written whole, sealed with a checksum, read back only when unchanged.

The seal is the SHA-256 of the file, written behind its end, where HDF5 does not look: any program opens the
file as an ordinary ``.h5ad``. It is checked before the file is opened, because a flipped byte is another
count at best and a crash of the HDF5 library at worst.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from celllm.cells.check import check
from celllm.cells.formats import open_cells
from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.io import atomic
from celllm.sources.archives import opened as opened_raw

if TYPE_CHECKING:
    from anndata import AnnData

_SEAL = re.compile(rb"\ncelllm sha256 ([0-9a-f]{64})\n")
_SEAL_BYTES = len("\ncelllm sha256 \n") + 64


def write(adata: "AnnData", path: str | Path) -> None:
    """Write a prepared data set, compressed and sealed; complete or absent."""
    import anndata
    import h5py

    check(adata, where=path)
    content = io.BytesIO()  # HDF5 crashes when it cannot close a file, so the disk never sees it write
    with h5py.File(content, "w") as file:
        anndata.io.write_elem(file, "/", adata, dataset_kwargs={"compression": "gzip", "compression_opts": 1})
    seal = f"\ncelllm sha256 {hashlib.sha256(content.getbuffer()).hexdigest()}\n"
    with atomic(path) as partial, open(partial, "wb") as handle:
        handle.write(content.getbuffer())
        handle.write(seal.encode())


def read(path: str | Path, vocabulary: Vocabulary | None = None) -> "AnnData":
    """Read a prepared data set, unchanged since it was written, and hold it to its contract."""
    verify(path)
    adata = open_cells(path)
    check(adata, vocabulary, where=path)
    return adata


@contextmanager
def opened(path: str | Path) -> Iterator["AnnData"]:
    """Open a prepared data set, unchanged since it was written, its counts left on disk."""
    import anndata

    verify(path)
    adata = anndata.read_h5ad(path, backed="r")
    try:
        yield adata
    finally:
        adata.file.close()


def is_sealed(path: str | Path) -> bool:
    """Whether the file ends like a prepared data set."""
    with open(path, "rb") as handle:
        return _read_seal(handle) is not None


def verify(path: str | Path) -> None:
    """Refuse a file that is not, byte by byte, what :func:`write` wrote."""
    with opened_raw(path) as handle:
        sealed = _read_seal(handle)
        if sealed is None:
            raise UserError(f"{path}: not a prepared data set, or cut short; make it with `celllm prepare`")
        digest, left = hashlib.sha256(), handle.seek(0, 2) - _SEAL_BYTES
        handle.seek(0)
        while left > 0 and (block := handle.read(min(2**20, left))):
            digest.update(block)
            left -= len(block)
        if digest.hexdigest() != sealed:
            raise UserError(f"{path}: damaged or changed since it was written; make it again")


def _read_seal(handle: IO[bytes]) -> str | None:
    size = handle.seek(0, 2)
    handle.seek(max(0, size - _SEAL_BYTES))
    match = _SEAL.fullmatch(handle.read())
    return match[1].decode() if match else None
