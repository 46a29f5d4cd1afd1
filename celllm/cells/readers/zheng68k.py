"""Zheng68k: 10x Genomics' 68k PBMC of donor A, a Matrix Market archive and a table of labels.

The archive holds ``filtered_matrices_mex/hg19/{matrix.mtx, genes.tsv, barcodes.tsv}`` (genes x cells); the
labels are joined by barcode. Zheng et al. 2017, Nature Communications 8:14049.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from scipy.io import mmread
from scipy.sparse import coo_matrix, csr_matrix

from celllm.cells.raw import RawCells, check_labels
from celllm.cells.settings import Zheng68kOptions as Options
from celllm.errors import UserError, one_line
from celllm.sources import delimited
from celllm.sources.archives import MAX_LINE, damage, members, open_bytes, open_text

FILES = ("matrix", "labels")
OPTIONAL_FILES = ()
SAMPLE = "fresh_68k_pbmc_donor_a"


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells of the archive with the label of each."""
    archive = files["matrix"]
    matrix, genes, barcodes = read_10x_archive(archive)
    cells = csr_matrix(matrix.T, dtype=np.float32)
    path = files["labels"]
    pairs = [(row["barcodes"], row["celltype"]) for row in delimited.rows(path, ("barcodes", "celltype"))]
    if (barcode := delimited.first_repeat([barcode for barcode, _ in pairs])) is not None:
        raise UserError(f"{path}: the barcode '{barcode}' occurs twice")
    labels = dict(pairs)
    obs = pd.DataFrame({"sample": SAMPLE, "label": [labels.get(b) for b in barcodes]}, index=barcodes)
    check_labels(obs["label"], files["labels"])
    return RawCells(cells, genes, obs)


def read_10x_archive(archive: Path) -> tuple[Any, list[str], list[str]]:
    """Read matrix (genes x cells), symbols and barcodes of a Cell Ranger archive, of any version.

    The folder ``hg19`` is taken where there are several genomes. Features other than gene expression are left
    out.
    """
    folders: dict[str, dict[str, Any]] = {}
    for name, stream in members(archive):
        part = _PARTS.get(Path(name).name.removesuffix(".gz"))
        if part is not None:
            where = f"{archive}: {name}"
            with damage(where):
                folders.setdefault(str(Path(name).parent), {})[part[0]] = part[1](stream, where)
    whole = [folder for folder, parts in folders.items() if len(parts) == 3]
    if not whole:
        parts, folder = next(
            ((p, f) for f, p in folders.items() if "matrix" in p), ({}, "filtered_matrices_mex/hg19")
        )
        missing = next(part for part in ("matrix", "genes", "barcodes") if part not in parts)
        names = " or ".join(name for name, (part, _) in _PARTS.items() if part == missing)
        raise UserError(f"{archive}: the member {folder}/{names} is missing")
    chosen = [folder for folder in whole if Path(folder).name == "hg19"] or whole
    if len(chosen) > 1:
        raise UserError(f"{archive}: holds several matrices ({', '.join(chosen)}); leave one in it")
    matrix, genes, barcodes = (folders[chosen[0]][part] for part in ("matrix", "genes", "barcodes"))
    if matrix.shape != (len(genes), len(barcodes)):
        raise UserError(
            f"{archive}: matrix.mtx is {matrix.shape[0]} x {matrix.shape[1]}, genes (features) and barcodes "
            f"name {len(genes)} genes x {len(barcodes)} cells"
        )
    kept = np.flatnonzero([fields[2:3] in ([], ["Gene Expression"]) for fields in genes])
    return csr_matrix(matrix)[kept], [genes[i][1] for i in kept], barcodes


def _matrix(stream: IO[bytes], where: str) -> Any:
    try:
        matrix = coo_matrix(mmread(open_bytes(stream, max_line=MAX_LINE)))
    except (ValueError, OverflowError, MemoryError, StopIteration) as error:
        raise UserError(f"{where}: not a complete Matrix Market matrix ({one_line(error)})") from error
    matrix.eliminate_zeros()
    if csr_matrix(matrix).nnz < matrix.nnz:
        raise UserError(f"{where}: a place (gene, cell) stands there twice; write the matrix again")
    return matrix


def _genes(stream: IO[bytes], where: str) -> list[list[str]]:
    fields = [line.rstrip("\r\n").split("\t") for line in open_text(stream) if line.strip()]
    short = next((i for i, f in enumerate(fields, start=1) if len(f) < 2), None)
    if short:
        raise UserError(f"{where}: line {short} has no second column with the gene symbol")
    return fields


def _barcodes(stream: IO[bytes], where: str) -> list[str]:
    return [line.strip() for line in open_text(stream) if line.strip()]


_PARTS = {
    "matrix.mtx": ("matrix", _matrix),
    "genes.tsv": ("genes", _genes),
    "features.tsv": ("genes", _genes),
    "barcodes.tsv": ("barcodes", _barcodes),
}
