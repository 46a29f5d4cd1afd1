"""PanglaoDB: one R workspace per sample, genes x barcodes, and the clusters of the barcodes that are cells.

The workspace holds a ``dgCMatrix``, read without running any R. Row names are ``SYMBOL_ENSG00000000000.1``;
counts can be fractions, because reads that fit several genes are shared out. Franzén et al. 2019, Database
2019:baz046.
"""

import bz2
import gzip
import logging
import lzma
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from lzma import LZMAError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rdata
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

from celllm.cells.raw import RawCells
from celllm.cells.settings import PanglaodbOptions as Options
from celllm.errors import UserError, one_line
from celllm.sources import delimited
from celllm.sources.archives import kind_of

log = logging.getLogger(__name__)

FILES = ("matrix",)
OPTIONAL_FILES = ("clusters", "metadata", "cluster_sizes")
PER_SAMPLE = True

_NAME = re.compile(r"(.*?)[_-](ENS([A-Z]*)G\d+(?:\.\d+)?(?:_PAR_Y)?)")
_BASES = re.compile("[ACGTN]+")
_COLUMNS = (
    "sra", "srs", "tissue", "protocol", "species", "instrument", "expressed_genes", "median_genes",
    "clusters", "is_tumour", "is_primary_adult", "is_cell_line",
)  # fmt: skip
_UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""A damaged workspace runs into any of these somewhere in the parser."""
MAX_WORKSPACE = 2**33
"""Bytes that a workspace may unpack to; the largest of PanglaoDB have some hundred megabytes."""


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells of one sample; there can be none."""
    matrix, names, barcodes = read_workspace(files["matrix"])
    obs = pd.DataFrame(index=pd.Index(barcodes, dtype=object))
    report: dict[str, int | str] = {"n_barcodes": len(barcodes)}
    if options.cells == "clusters":
        if "clusters" not in files:
            raise UserError(
                "panglaodb: the file 'clusters' is missing; give clusters=PATH or set cells: min_genes"
            )
        clusters = read_clusters(files["clusters"], barcodes)
        obs["cluster"] = [clusters.get(barcode, "") for barcode in barcodes]
        kept = np.flatnonzero(obs["cluster"] != "")
        matrix, obs = matrix[kept], obs.iloc[kept]
    return RawCells(matrix, symbols(names, files["matrix"]), obs, fractions=True, report=report)


def read_workspace(path: Path) -> tuple[csr_matrix, list[str], list[str]]:
    """Read the matrix of an R workspace as barcodes x genes, with the names of genes and barcodes.

    PanglaoDB has a ``dgCMatrix``; ``dgRMatrix``, ``dgTMatrix`` and a dense matrix with names are read too.
    """
    objects = _load(path)
    found = objects.get("sm") if len(objects) > 1 else next(iter(objects.values()), None)
    if found is None:
        held = ", ".join(objects) or "nothing"
        raise UserError(f"{path}: expected one sparse matrix (dgCMatrix) named sm, found {held}")
    kind = str(np.atleast_1d(getattr(found, "class", type(found).__name__))[0])
    try:
        if kind == "DataArray":  # a dense matrix that has names
            names = [found.coords[dim].values for dim in found.dims]
            matrix = coo_matrix(found.values)
        elif kind in _SPARSE:
            names = list(found.Dimnames)
            # Dim comes back empty where R stored it as a compact sequence; the names say the same.
            shape = found.Dim if len(found.Dim) == 2 else [len(side) for side in names]
            matrix = _SPARSE[kind](found, tuple(int(n) for n in shape))
        else:
            raise UserError(
                f"{path}: holds an R object of the class {kind}, expected a sparse matrix (dgCMatrix); "
                "in R take the matrix out of it, for instance `sm <- GetAssayData(x, layer = 'counts')`"
            )
        if len(names) != 2 or any(side is None for side in names):
            raise UserError(
                f"{path}: the matrix has no names of genes and barcodes (Dimnames); set both in R"
            )
        genes, barcodes = ([str(name) for name in side] for side in names)
        matrix = csc_matrix(matrix)
        matrix.check_format(full_check=True)
    except _UNREADABLE as error:
        raise UserError(f"{path}: the matrix is damaged ({one_line(error)}); {delimited.AGAIN}") from error
    if matrix.shape != (len(genes), len(barcodes)):
        raise UserError(
            f"{path}: {len(genes)} genes and {len(barcodes)} barcodes name a matrix of {matrix.shape}"
        )
    return csr_matrix(matrix.T, dtype=np.float32), genes, barcodes


_SPARSE: dict[str, Callable[[Any, tuple[int, ...]], Any]] = {
    "dgCMatrix": lambda m, shape: csc_matrix((m.x, m.i, m.p), shape=shape),
    "dgRMatrix": lambda m, shape: csr_matrix((m.x, m.j, m.p), shape=shape),
    "dgTMatrix": lambda m, shape: coo_matrix((m.x, (m.i, m.j)), shape=shape),
}


def _load(path: Path) -> dict[str, Any]:
    """Objects of an R workspace by name, or the one of saveRDS, read without running any of it."""
    try:
        start = _unpacked(path, 512)
        if not start.strip() or start.lstrip().startswith(b"<"):
            what = "a web page (HTML) instead of the data" if start.strip() else "the file is empty"
            raise UserError(f"{path}: {what}; {delimited.AGAIN}")
        is_rds = start[:2] in (b"X\n", b"A\n")
        if not is_rds and start[:2] != b"RD":
            what = kind_of(start) or "no R data by its first bytes"
            raise UserError(
                f"{path}: not a complete R workspace (it is {what}); "
                f"expected is an .RData with one sparse matrix; {delimited.AGAIN}"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the missing constructor of dgCMatrix, and on every oddity
            content = _unpacked(path, MAX_WORKSPACE)
            if len(content) == MAX_WORKSPACE:
                raise UserError(f"{path}: unpacks to {MAX_WORKSPACE} bytes or more; refused")
            parsed = rdata.parser.parse_data(content, extension=".rds" if is_rds else ".rda")
            found = rdata.conversion.convert(parsed)
    except (*_UNREADABLE, zlib.error, LZMAError) as error:
        raise UserError(
            f"{path}: not a complete R workspace ({one_line(error)}); {delimited.AGAIN}"
        ) from error
    return {"sm": found} if is_rds else dict(found)


def _unpacked(path: Path, most: int) -> bytes:
    """The first bytes of a file behind gzip, bzip2, xz or nothing."""
    opener = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
    with open(path, "rb") as handle:
        magic = handle.read(2)
    with opener.get(magic, open)(path, "rb") as stream:  # type: ignore[operator]
        return bytes(stream.read(most))


def symbols(names: list[str], where: str | Path = "the matrix") -> list[str]:
    """Cut the Ensembl id off ``SYMBOL_ENSG...`` names; names of another species are a :class:`UserError`."""
    cut = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match and match[3]:
            raise UserError(f"{where}: '{name}' is not a human gene (ENS{match[3]}G); leave this sample out")
        cut.append(match[1] if match else name)
    return cut


def read_clusters(path: Path, barcodes: Sequence[str]) -> dict[str, str]:
    """Cluster of each barcode that PanglaoDB counts as a cell; ``barcodes`` are those of the matrix."""
    clusters: dict[str, str] = {}
    for row in delimited.rows(path, ("barcode", "cluster"), delimiter=None, header=False):
        if row["barcode"] in clusters:
            raise UserError(f"{row.where}: the barcode '{row['barcode']}' occurs twice")
        clusters[row["barcode"]] = row["cluster"]
    wrong = [barcode for barcode in clusters if not _BASES.fullmatch(barcode)]
    if wrong and all(map(_BASES.fullmatch, barcodes)):
        raise UserError(
            f"{path}: '{wrong[0]}' is not a barcode, a sequence of A, C, G, T and N; {delimited.AGAIN}"
        )
    if lacking := sorted(set(clusters).difference(barcodes)):
        n, example = len(lacking), lacking[0]
        log.warning("%s: %d of %d barcodes are not in the matrix, e.g. %s", path, n, len(clusters), example)
    return clusters


def human_samples(metadata: Path, cluster_sizes: Path | None = None) -> pd.DataFrame:
    """List the human samples, indexed by the name of their files, with the columns of ``metadata.txt``.

    ``flag`` is ``1`` for a tumour, ``0`` for none, ``""`` unknown; ``n_cells`` are clustered cells.
    """
    table = pd.DataFrame(list(delimited.rows(metadata, _COLUMNS, ",", header=False)), columns=list(_COLUMNS))
    table = table[table["species"] == "Homo sapiens"]
    table.index = pd.Index(
        [sample_name(a, b) for a, b in zip(table["sra"], table["srs"], strict=True)], name="sample"
    )
    table["flag"] = table["is_tumour"].replace(r"\N", "")
    if cluster_sizes is not None:
        sizes: dict[str, int] = {}
        for row in delimited.rows(cluster_sizes, ("sra", "srs", "cluster", "n"), ",", header=False):
            name, n = sample_name(row["sra"], row["srs"]), delimited.number(row["n"], row.where)
            sizes[name] = sizes.get(name, 0) + int(n or 0)
        table["n_cells"] = [sizes.get(name, 0) for name in table.index]
    return table


def sample_name(sra: str, srs: str) -> str:
    """Name of a sample's files; a few samples have no SRS id."""
    return sra if srs == "notused" else f"{sra}_{srs}"


def sample_table(files: Mapping[str, Path], options: Options) -> pd.DataFrame:
    """Samples of a run, ``sample, tumour, tissue, n_cells`` and more, by the option ``tumour_samples``."""
    table = human_samples(files["metadata"], files.get("cluster_sizes"))
    is_tumour = table["flag"] == "1"
    if options.tumour_samples == "drop":
        table, is_tumour = table[~is_tumour], is_tumour[~is_tumour]
    table["tumour"] = is_tumour & (options.tumour_samples == "as_tumour")
    return table
