"""Prepared data sets: written whole and compressed, read back only when complete and unchanged."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celllm.data.check import check
from celllm.data.genes import Vocabulary
from celllm.data.tables import AGAIN
from celllm.errors import UserError
from celllm.io import atomic

if TYPE_CHECKING:
    from anndata import AnnData


def write(adata: "AnnData", path: str | Path) -> None:
    """Write a prepared data set with the checksum of its content; complete or absent.

    Compression is not for size alone: a flipped byte in a compressed block is an error when it is read, in a
    plain block it is another count.
    """
    adata.uns["celllm"]["sha256"] = digest(adata)
    check(adata, where=path)
    with atomic(path) as partial:
        adata.write_h5ad(partial, compression="gzip", compression_opts=1)


def read(path: str | Path, vocabulary: Vocabulary | None = None) -> "AnnData":
    """Read a prepared data set and hold it to its contract.

    Raises
    ------
    UserError
        For a damaged file, a changed content, or whatever :func:`celllm.data.check.check` refuses.
    """
    adata = open_h5ad(path)
    check(adata, vocabulary, where=path)
    verify(adata, path)
    return adata


def open_h5ad(path: str | Path) -> "AnnData":
    """Open any ``.h5ad``; a missing or damaged one is a :class:`UserError`."""
    import anndata

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a complete .h5ad file ({detail}); {AGAIN}") from error


def verify(adata: "AnnData", path: str | Path) -> None:
    """Refuse a prepared data set whose content is not what was written."""
    stored = str(adata.uns["celllm"].get("sha256", ""))
    if stored != digest(adata):
        raise UserError(f"{path}: the content has changed since it was written; {AGAIN}")


def digest(adata: "AnnData") -> str:
    """SHA-256 over the counts, the names of cells and genes, and obs."""
    matrix: Any = adata.X
    content = hashlib.sha256()
    for part, kind in ((matrix.indptr, np.int64), (matrix.indices, np.int32), (matrix.data, np.float32)):
        content.update(np.ascontiguousarray(part, dtype=kind).data)
    for names in (adata.obs_names, adata.var_names):
        content.update("\n".join(names).encode())
    for column in sorted(adata.obs.columns):
        content.update(f"\n{column}\n".encode())
        content.update("\n".join(adata.obs[column].astype(str)).encode())
    return content.hexdigest()


def label_counts(path: str | Path) -> dict[str, int]:
    """Cells of each label of a prepared data set, the largest class first, without reading its counts."""
    import h5py

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as handle:
            text = handle["uns/celllm/label_counts"][()]
    except (OSError, KeyError) as error:
        raise UserError(
            f"{path}: not a prepared data set ({error}); make it with `celllm prepare`"
        ) from error
    counts: dict[str, int] = json.loads(text)
    return counts
