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
from scipy.sparse import csr_matrix

from celllm.cells.raw import RawCells, check_labels
from celllm.cells.settings import Zheng68kOptions as Options
from celllm.errors import UserError
from celllm.sources import delimited
from celllm.sources.archives import damage, members, open_text

FILES = ("matrix", "labels")
OPTIONAL_FILES = ()
SAMPLE = "fresh_68k_pbmc_donor_a"


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells of the archive with the label of each."""
    parts = {
        Path(name).name: _part(name, stream, files["matrix"])
        for name, stream in members(files["matrix"], "*/hg19/*")
        if Path(name).name in _PARTS
    }
    for name in _PARTS:
        if name not in parts:
            raise UserError(f"{files['matrix']}: the member filtered_matrices_mex/hg19/{name} is missing")
    matrix, genes, barcodes = (parts[name] for name in _PARTS)
    if matrix.shape != (len(genes), len(barcodes)):
        raise UserError(
            f"{files['matrix']}: matrix.mtx is {matrix.shape[0]} x {matrix.shape[1]}, "
            f"genes.tsv and barcodes.tsv name {len(genes)} genes x {len(barcodes)} cells"
        )
    cells = csr_matrix(matrix.T, dtype=np.float32)
    labels = _labels(files["labels"])
    obs = pd.DataFrame({"sample": SAMPLE, "label": [labels.get(b) for b in barcodes]}, index=barcodes)
    check_labels(obs["label"], files["labels"])
    return RawCells(cells, [fields[1] for fields in genes], obs)


def _labels(path: Path) -> dict[str, str]:
    pairs = [(row["barcodes"], row["celltype"]) for row in delimited.rows(path, ("barcodes", "celltype"))]
    if (barcode := delimited.first_repeat([barcode for barcode, _ in pairs])) is not None:
        raise UserError(f"{path}: the barcode '{barcode}' is there twice")
    return dict(pairs)


def _matrix(stream: IO[bytes], where: str) -> Any:
    try:
        return mmread(stream)
    except (ValueError, OverflowError, StopIteration) as error:
        raise UserError(
            f"{where}: not a complete Matrix Market matrix ({' '.join(str(error).split())})"
        ) from error


def _genes(stream: IO[bytes], where: str) -> list[list[str]]:
    fields = [line.rstrip("\n").split("\t") for line in open_text(stream)]
    short = next((i for i, f in enumerate(fields, start=1) if len(f) < 2), None)
    if short:
        raise UserError(f"{where}: line {short} has no second column with the gene symbol")
    return fields


def _barcodes(stream: IO[bytes], where: str) -> list[str]:
    return [line.strip() for line in open_text(stream)]


_PARTS = {"matrix.mtx": _matrix, "genes.tsv": _genes, "barcodes.tsv": _barcodes}


def _part(name: str, stream: IO[bytes], archive: Path) -> Any:
    where = f"{archive}: {name}"
    with damage(where):
        return _PARTS[Path(name).name](stream, where)
