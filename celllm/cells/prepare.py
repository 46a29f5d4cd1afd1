"""From the files of a source to a prepared data set: raw values, approved symbols, labels, provenance."""

import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from celllm import __version__
from celllm.cells import h5ad
from celllm.cells.genes import SHOWN, GeneReport, SymbolMap, Vocabulary, harmonise
from celllm.cells.raw import RawCells, check_files
from celllm.cells.settings import CellOptions
from celllm.errors import UserError
from celllm.settings import as_settings
from celllm.sources import delimited

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

SOURCES = ("panglaodb", "cancerscem", "zheng68k", "baron", "gse149383", "gse117872", "ccle")
GENE_LIST = "gene_list"
"""File of names, one a line, that ``filter_genes: list`` counts."""


def run_prepare(
    source: str,
    /,
    files: Mapping[str, str | Path],
    genes: str | Path,
    aliases: str | Path,
    settings: str | Mapping[str, Any] | None,
    out: str | Path,
    sample: str | None = None,
    samples: str | Path | None = None,
) -> None:
    """Raw files of a data set (or of one sample) -> prepared .h5ad.

    Parameters
    ----------
    source
        Name of the reader.
    files
        Its files by their names in the catalogue.
    genes, aliases
        The vocabulary and the other names of its genes.
    settings
        Options of the reader, as JSON or a mapping.
    out
        The prepared ``.h5ad``.
    sample, samples
        For sources with one file per sample: its name, and the table with the columns ``sample`` and
        ``tumour``.

    Raises
    ------
    UserError
        For whatever is wrong with options, files or values, in one line; nothing is written then.
    """
    if "cells" in files or "samples" in files:  # a data set of one's own
        reader = importlib.import_module("celllm.cells.readers.h5ad")
    elif source in SOURCES:
        reader = importlib.import_module(f"celllm.cells.readers.{source}")
    else:
        raise UserError(f"unknown source '{source}'; known are {', '.join(SOURCES)}; or give cells=PATH")
    options = as_settings(reader.Options, settings, where=f"options of {source}")
    paths = {name: Path(path) for name, path in files.items()}
    needed = reader.FILES if "samples" not in files else reader.SAMPLE_FILES
    check_files(source, paths, needed, (*reader.OPTIONAL_FILES, GENE_LIST))
    symbol_map = SymbolMap.read(aliases, Vocabulary.read(genes))
    where = paths[needed[0]]
    raw = reader.read(paths, options)
    if getattr(reader, "PER_SAMPLE", "samples" in files):
        if sample is None or samples is None:
            raise UserError(f"{source}: one file per sample; give --sample NAME and --samples TABLE")
        # Barcodes repeat across samples, so ids start with the sample.
        raw.obs.index = pd.Index([f"{sample}:{barcode}" for barcode in raw.obs.index], dtype=object)
        raw.obs["sample"] = sample
        raw.obs["tumour"] = is_tumour(samples, sample)
    raw.check(where)
    adata = prepare(raw, symbol_map, options, where, _listed(options, paths, source))
    adata.uns["celllm"] |= {
        "source": source,
        "files": json.dumps({name: path.name for name, path in paths.items()}, sort_keys=True),
    }
    h5ad.write(adata, out)


def prepare(
    raw: RawCells,
    symbol_map: SymbolMap,
    options: CellOptions,
    where: str | Path = "the data",
    listed: frozenset[str] = frozenset(),
) -> "AnnData":
    """Map the genes of raw cells to the vocabulary and leave out the cells that the options leave out.

    ``raw`` is as a reader gives it, checked; ``listed`` names the genes that ``filter_genes: list`` counts.
    Returned is a data set by the contract of prepared ones, but for the source and its files.
    """
    from anndata import AnnData

    _check_orientation(raw, symbol_map, where)
    matrix, symbols, report = harmonise(raw.matrix, raw.genes, symbol_map, where, options.max_unknown)
    kept = _kept(raw, matrix, options, listed)
    if not kept.size and not options.allow_empty:
        n_expressing = int((np.diff(matrix.indptr) > 0).sum())
        dropped = ", ".join(options.drop_labels) or "none"
        raise UserError(
            f"{where}: none of the {len(raw.obs)} cells read is kept ({n_expressing} express a "
            f"gene of the vocabulary; min_genes {options.fewest_genes}, drop_labels {dropped}); "
            "are the labels and other files those of this matrix? allow_empty keeps an empty data set"
        )
    matrix = matrix[kept]
    if raw.take_log:
        matrix.data = np.log2(matrix.data + 1)
    obs = raw.obs.iloc[kept].copy()
    for column in obs.columns.difference(["tumour"]):
        obs[column] = pd.Categorical(obs[column].astype(str))
    _tell(raw, obs, report, where)
    provenance = _provenance(raw, obs, report, options)
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=symbols), uns={"celllm": provenance})


def _provenance(raw: RawCells, obs: pd.DataFrame, report: GeneReport, options: CellOptions) -> dict[str, Any]:
    """What ``uns["celllm"]`` tells; source and files are filled in by :func:`run_prepare`."""
    return {
        "source": "",
        "values": "log2_tpm" if raw.take_log else raw.values,
        "fractions": raw.fractions,
        "options": json.dumps(options.model_dump(), sort_keys=True),
        "n_cells_in": len(raw.obs),
        "n_cells_out": len(obs),
        "n_genes_in": report.n_in,
        "n_genes_out": report.n_out,
        "n_merged_symbols": len(report.merged),
        "n_unmapped": report.n_unmapped,
        "unknown_share": report.unknown_share,
        "unknown_genes": json.dumps(report.unmapped[:SHOWN]),
        "changed_names": json.dumps(report.n_changed, sort_keys=True),
        "label_counts": json.dumps(_label_counts(obs)),
        "files": "{}",
        "version": __version__,
    }


def is_tumour(samples: str | Path, sample: str) -> bool:
    """Tumour label of a sample, by the table of samples (``0``/``1`` or ``false``/``true``)."""
    labels = {row["sample"]: row["tumour"].lower() for row in delimited.rows(samples, ("sample", "tumour"))}
    if sample not in labels:
        raise UserError(f"{samples}: the sample '{sample}' is not listed")
    if labels[sample] not in ("0", "1", "false", "true"):
        raise UserError(f"{samples}: tumour of '{sample}' is '{labels[sample]}', expected 0 or 1")
    return labels[sample] in ("1", "true")


def _listed(options: CellOptions, files: Mapping[str, Path], source: str) -> frozenset[str]:
    if options.filter_genes != "list":
        return frozenset()
    if GENE_LIST not in files:
        raise UserError(
            f"{source}: filter_genes is 'list', but the file '{GENE_LIST}' is missing (one name a line)"
        )
    return frozenset(
        row["name"] for row in delimited.rows(files[GENE_LIST], ("name",), delimiter=None, header=False)
    )


def _check_orientation(raw: RawCells, symbol_map: SymbolMap, where: str | Path) -> None:
    """Tell a transposed matrix from one without common genes: its cells are named like genes."""
    if (symbol_map.genes(raw.genes) >= 0).any() or not len(raw.obs):
        return
    barcodes = [str(cell).rpartition(":")[2] for cell in raw.obs.index]
    if (symbol_map.genes(barcodes) >= 0).mean() > 0.5:
        raise UserError(
            f"{where}: rows and columns are exchanged: the cells are named like genes ('{barcodes[0]}')"
        )


def _kept(
    raw: RawCells, matrix: "csr_matrix", options: CellOptions, listed: frozenset[str]
) -> NDArray[np.int64]:
    """Rows that stay: wanted label, enough genes, at least one gene of the vocabulary."""
    n_genes = np.diff(matrix.indptr)
    keep = n_genes > 0
    if options.filter_genes != "vocabulary":
        counted = raw.matrix
        if options.filter_genes == "list":
            counted = counted[:, [name in listed for name in raw.genes]]
        n_genes = np.asarray((counted > 0).sum(axis=1)).ravel()
    keep &= n_genes >= options.fewest_genes
    if options.drop_labels:
        labels = raw.obs["label"].astype(str)
        unknown = sorted(set(options.drop_labels) - set(labels))
        if unknown:
            log.warning("no cell has the label '%s' of drop_labels", unknown[0])
        keep &= ~labels.isin(options.drop_labels).to_numpy()
    return np.flatnonzero(keep)


def _label_counts(obs: pd.DataFrame) -> dict[str, int]:
    if "label" not in obs:
        return {}
    return {str(label): int(n) for label, n in obs["label"].value_counts().items()}


def _tell(raw: RawCells, obs: pd.DataFrame, report: GeneReport, where: str | Path) -> None:
    for name, value in raw.report.items():
        log.info("%s: %s %s", where, name, value)
    log.info("%s: %d of %d cells kept", where, len(obs), len(raw.obs))
    log.info(
        "%s: %d gene names -> %d genes of the vocabulary; %d renamed, %d unknown, %d summed of several",
        where, report.n_in, report.n_out, report.n_renamed, report.n_unmapped, len(report.merged),
    )  # fmt: skip
    for kind, n in report.n_changed.items():
        log.info("%s: %d names recognised after undoing: %s", where, n, kind)
    if report.merged:
        log.info("%s: summed: %s", where, ", ".join(report.merged[:20]))
    for label, n in _label_counts(obs).items():
        if n < 2:
            log.warning("%s: the class '%s' has one cell: it cannot be split by class", where, label)
