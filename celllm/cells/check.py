"""Checks of cell files: a prepared data set against its contract, any other ``.h5ad`` for raw counts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celllm.cells.genes import FEW, SymbolMap, Vocabulary
from celllm.cells.values import KINDS, looks_logged, value_problem
from celllm.errors import UserError
from celllm.sources.delimited import first_repeat

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

PROVENANCE = (
    "source", "values", "fractions", "options", "n_cells_in", "n_cells_out", "n_genes_in", "n_genes_out",
    "n_merged_symbols", "n_unmapped", "label_counts", "files", "version",
)  # fmt: skip
"""Keys of ``uns["celllm"]`` of a prepared data set."""

_SYMBOL_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "symbol", "gene_ids")


def check(
    adata: "AnnData",
    vocabulary: Vocabulary | None = None,
    values: str | None = None,
    where: str | Path = "the prepared data set",
) -> None:
    """Refuse a data set that breaks the contract of prepared files.

    Parameters
    ----------
    adata
        Cells x genes.
    vocabulary
        The genes of the run; None leaves the comparison of symbols out.
    values
        The kind of values asked for: ``counts``, ``tpm`` or ``log2_tpm``; None takes what the file says.

    Raises
    ------
    UserError
        Naming the first problem and how many there are.
    """
    found = problems(adata, vocabulary, values)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(f"{where}: {found[0]}{more}")


def problems(adata: "AnnData", vocabulary: Vocabulary | None = None, values: str | None = None) -> list[str]:
    """List what breaks the contract of prepared files, one line each; see :func:`check`."""
    stored = adata.uns.get("celllm")
    if not isinstance(stored, dict) or set(PROVENANCE) - set(stored):
        return ["uns['celllm'] is missing or incomplete; make the file with `celllm prepare`"]
    return [
        *_name_problems(adata, vocabulary),
        *_obs_problems(adata.obs),
        *_matrix_problems(adata, stored, values or str(stored["values"])),
    ]


def _name_problems(adata: "AnnData", vocabulary: Vocabulary | None) -> Iterator[str]:
    for what, names in (("cell", adata.obs_names), ("gene", adata.var_names)):
        if (name := first_repeat(names)) is not None:
            yield f"the {what} '{name}' is there twice"
    if vocabulary is None:
        return
    places = [vocabulary.index_of.get(name, -1) for name in adata.var_names]
    if -1 in places:
        yield f"the gene '{adata.var_names[places.index(-1)]}' is not in the vocabulary of this run"
    elif places != sorted(places):
        yield "the genes are not in the order of the vocabulary"


def _obs_problems(obs: "pd.DataFrame") -> Iterator[str]:
    if "sample" not in obs:
        yield "obs['sample'] is missing"
    if "tumour" in obs and obs["tumour"].dtype != bool:
        yield f"obs['tumour'] must be true or false, got {obs['tumour'].dtype}"
    if "label" in obs and obs["label"].isna().any():
        yield f"{int(obs['label'].isna().sum())} cells have no label"


def _matrix_problems(adata: "AnnData", stored: dict[str, Any], kind: str) -> Iterator[str]:
    from scipy.sparse import issparse

    matrix: Any = adata.X
    if not issparse(matrix) or matrix.format != "csr" or matrix.dtype != np.float32:
        yield f"X must be CSR float32, got {getattr(matrix, 'format', type(matrix).__name__)} {matrix.dtype}"
        return
    if kind not in KINDS or kind != stored["values"]:
        yield f"the values are '{stored['values']}', expected '{kind}'"
        return
    problem = value_problem(matrix, kind, bool(stored["fractions"]), adata.obs_names, adata.var_names)
    if problem:
        yield problem
    empty = np.flatnonzero(np.diff(matrix.indptr) == 0)
    if empty.size:
        yield f"{empty.size} cells express no gene, e.g. '{adata.obs_names[empty[0]]}'"


@dataclass(frozen=True)
class Counts:
    """Raw counts found in somebody's AnnData.

    Attributes
    ----------
    matrix
        Cells x genes, CSR; a view of the data where it could be one.
    genes
        Name of each column.
    place
        Where they stand: ``raw.X``, ``layers['counts']`` or ``X``.
    whole
        Whether all values are whole numbers.
    """

    matrix: "csr_matrix"
    genes: list[str]
    place: str
    whole: bool


def find_counts(
    adata: "AnnData", symbol_map: SymbolMap | None = None, where: str | Path = "the data"
) -> Counts:
    """Find the raw counts of an AnnData; nothing in it is changed.

    Looked at are ``raw.X``, ``layers["counts"]`` and ``X``, in this order; the first that can be counts is
    taken. Gene names are the index of ``var`` or, where that matches the vocabulary better, a column such as
    ``feature_name``.

    Raises
    ------
    UserError
        When none of them can be raw counts; the message says what each holds instead.
    """
    refused = []
    for place, layer, var in _places(adata):
        matrix = _as_csr(layer)
        genes = _gene_names(var, symbol_map)
        problem = _count_problem(matrix, adata.obs_names, genes)
        if problem is None:
            whole = bool((matrix.data == np.floor(matrix.data)).all())
            return Counts(matrix, genes, place, whole)
        refused.append(f"{place}: {problem}")
    raise UserError(f"{where}: no raw counts found; " + "; ".join(refused))


def _places(adata: "AnnData") -> Iterator[tuple[str, Any, "pd.DataFrame"]]:
    if adata.raw is not None:
        yield "raw.X", adata.raw.X, adata.raw.var
    if "counts" in adata.layers:
        yield "layers['counts']", adata.layers["counts"], adata.var
    if adata.X is not None:
        yield "X", adata.X, adata.var


def _as_csr(layer: Any) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    if hasattr(layer, "to_memory"):
        layer = layer.to_memory()
    elif not hasattr(layer, "tocsr"):
        layer = np.asarray(layer)
    return csr_matrix(layer)


def _gene_names(var: "pd.DataFrame", symbol_map: SymbolMap | None) -> list[str]:
    choices = [var.index.astype(str), *(var[c].astype(str) for c in _SYMBOL_COLUMNS if c in var)]
    if symbol_map is None or len(choices) == 1:
        return list(choices[0])
    return list(max(choices, key=lambda names: int((symbol_map.genes(names) >= 0).sum())))


def _count_problem(matrix: "csr_matrix", cells: Sequence[Any], genes: Sequence[str]) -> str | None:
    problem = value_problem(matrix, "counts", True, cells, genes)
    if problem is None and looks_logged(matrix.data):
        problem = f"the values look already log-transformed (largest {matrix.data.max():.4g})"
    return problem


def run_check(file: str | Path, genes: str | Path | None = None, aliases: str | Path | None = None) -> None:
    """Print what a ``.h5ad`` holds and whether the models can read it.

    A prepared data set is held to its contract, any other file is searched for raw counts.

    Parameters
    ----------
    file
        The cells.
    genes, aliases
        The vocabulary of a run and its other names; without them genes are not matched.

    Raises
    ------
    UserError
        When there is a problem; all of them are printed before.
    """
    from celllm.cells.h5ad import is_sealed, open_h5ad, verify

    if Path(file).is_file() and is_sealed(file):
        verify(file)
    adata = open_h5ad(file)
    vocabulary = Vocabulary.read(genes) if genes else None
    if "celllm" in adata.uns:
        lines, found = _describe(adata), problems(adata, vocabulary)
    else:
        symbol_map = _symbol_map(vocabulary, aliases)
        lines, found = _judge(adata, find_counts(adata, symbol_map, file), symbol_map)
    print("\n".join([str(file), *(f"  {line}" for line in lines), *(f"  PROBLEM {line}" for line in found)]))
    if found:
        raise UserError(f"{file}: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))


def _symbol_map(vocabulary: Vocabulary | None, aliases: str | Path | None) -> SymbolMap | None:
    if vocabulary is None:
        return None
    return SymbolMap.read(aliases, vocabulary) if aliases else SymbolMap(vocabulary, ())


def _describe(adata: "AnnData") -> list[str]:
    stored = adata.uns["celllm"]
    lines = [f"{name}: {stored[name]}" for name in PROVENANCE if name in stored and name != "label_counts"]
    counts = json.loads(stored.get("label_counts", "{}"))
    return [*lines, *(f"label {label}: {n} cells" for label, n in counts.items())]


def _judge(adata: "AnnData", counts: Counts, symbol_map: SymbolMap | None) -> tuple[list[str], list[str]]:
    """Describe a user's file and list its problems."""
    n_genes = np.diff(counts.matrix.indptr)
    kind = "whole counts" if counts.whole else "counts with fractions (read as shares of their cell)"
    lines = [
        f"{adata.n_obs} cells x {len(counts.genes)} genes; values in {counts.place}: {kind}",
        f"expressed genes of a cell: median {int(np.median(n_genes)) if n_genes.size else 0}",
    ]
    found = []
    if not n_genes.size:
        found.append("there is no cell in it")
    if (cell := first_repeat(adata.obs_names)) is not None:
        found.append(f"the cell id '{cell}' is there twice; call adata.obs_names_make_unique()")
    if (n_empty := int((n_genes == 0).sum())) > 0:
        found.append(f"{n_empty} cells have no counts at all; remove them")
    if n_repeats := len(counts.genes) - len(set(counts.genes)):
        lines.append(f"{n_repeats} gene names are repeats; their counts are summed")
    if symbol_map is not None:
        _match(adata, counts, symbol_map, lines, found)
    return lines, found


def _match(
    adata: "AnnData", counts: Counts, symbol_map: SymbolMap, lines: list[str], found: list[str]
) -> None:
    n_mapped = int((symbol_map.genes(counts.genes) >= 0).sum())
    lines.append(
        f"{n_mapped} of {len(counts.genes)} genes are in the vocabulary of {len(symbol_map.vocabulary)}"
    )
    if n_mapped >= FEW * len(counts.genes) and n_mapped:
        return
    if (symbol_map.genes(adata.obs_names[:1000]) >= 0).mean() > FEW:
        found.append("the genes stand in the rows; hand over adata.T")
    elif n_mapped == 0:
        found.append(
            f"no gene in common with the vocabulary (names here: {', '.join(map(repr, counts.genes[:3]))}); "
            "human gene symbols or Ensembl gene ids are expected"
        )
    else:
        lines.append("WARNING: very few genes match; are they human gene symbols or Ensembl gene ids?")
