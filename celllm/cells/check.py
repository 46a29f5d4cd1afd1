"""Checks of cell files: a prepared data set against its contract, any other ``.h5ad`` for raw counts."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celllm.cells.genes import FEW, SymbolMap, Vocabulary, gene_list_of
from celllm.cells.values import KINDS, LINEAR, Values, judge, value_problem
from celllm.errors import UserError, one_line
from celllm.sources.delimited import AGAIN, first_repeat

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

PROVENANCE = (
    "source", "values", "fractions", "options", "n_cells_in", "n_cells_out", "n_genes_in", "n_genes_out",
    "n_merged_symbols", "n_unmapped", "unknown_share", "unknown_genes", "changed_names", "label_counts",
    "files", "version",
)  # fmt: skip
"""Keys of ``uns["celllm"]`` of a prepared data set."""

SYMBOL_COLUMNS = (
    "feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "gene_short_name",
    "hgnc_symbol",
    "symbol", "symbols", "name", "gene", "genes", "gene_ids", "gene_id", "ensembl_id", "feature_id",
)  # fmt: skip
"""Columns of ``var`` that can hold the names of the genes, in lower case with underscores."""


def check(
    adata: "AnnData",
    vocabulary: Vocabulary | None = None,
    values: str | None = None,
    where: str | Path = "the prepared data set",
) -> None:
    """Refuse cells x genes that break the contract of prepared files.

    Symbols are compared with ``vocabulary`` where it is given; ``values`` is the kind asked for (``counts``,
    ``tpm``, ``log2_tpm``), that of the file by default. The :class:`UserError` names the first problem and
    how many there are.
    """
    _refuse(problems(adata, vocabulary, values), where)


def _refuse(found: Sequence[str], where: str | Path) -> None:
    if found:
        raise UserError(f"{where}: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))


def problems(adata: "AnnData", vocabulary: Vocabulary | None = None, values: str | None = None) -> list[str]:
    """List what breaks the contract of prepared files, one line each; see :func:`check`."""
    stored = adata.uns.get("celllm")
    if not isinstance(stored, dict) or set(PROVENANCE) - set(stored):
        return ["uns['celllm'] is missing or incomplete; make the file with `celllm prepare`"]
    found = []
    for what, names in (("cell", adata.obs_names), ("gene", adata.var_names)):
        if (name := first_repeat(names)) is not None:
            found.append(f"the {what} '{name}' occurs twice")
    places = [] if vocabulary is None else [vocabulary.index_of.get(name, -1) for name in adata.var_names]
    if -1 in places:
        found.append(f"the gene '{adata.var_names[places.index(-1)]}' is not in the vocabulary of this run")
    elif places != sorted(places):
        found.append("the genes are not in the order of the vocabulary")
    if "sample" not in adata.obs:
        found.append("obs['sample'] is missing")
    if "tumour" in adata.obs and adata.obs["tumour"].dtype != bool:
        found.append(f"obs['tumour'] must be true or false, got {adata.obs['tumour'].dtype}")
    if "label" in adata.obs and adata.obs["label"].isna().any():
        found.append(f"{int(adata.obs['label'].isna().sum())} cells have no label")
    return [*found, *_matrix_problems(adata, stored, values or str(stored["values"]))]


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
    empty = np.flatnonzero((matrix != 0).getnnz(axis=1) == 0)
    if empty.size:
        yield f"{empty.size} cells express no gene, e.g. '{adata.obs_names[empty[0]]}'"


@dataclass(frozen=True)
class Counts:
    """Raw counts found in somebody's AnnData.

    ``matrix`` is cells x genes, CSR without stored zeros, a view where it can be one; ``genes`` names its
    columns; ``place`` is ``raw.X``, ``layers['counts']`` or ``X``; ``values`` says what the counts are.
    """

    matrix: "csr_matrix"
    genes: list[str]
    place: str
    values: Values

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.values.nature == "counts"


def find_counts(
    adata: "AnnData",
    symbol_map: SymbolMap | None = None,
    where: str | Path = "the data",
    layer: str | None = None,
    gene_key: str | None = None,
) -> Counts:
    """Find the raw counts of an AnnData; nothing in it is changed.

    Looked at are ``raw.X``, ``X`` and all layers. Whole counts win wherever they stand; then counts with
    fractions, then values that were normalised but not logged, for a model that reads shares of a cell. Of
    equals the first of ``raw.X``, ``layers["counts"]``, ``X`` and the other layers is taken.

    ``layer`` (``raw.X``, ``X`` or a layer's name) is the one place to look at; ``gene_key`` the column of
    ``var`` with the gene names, by default the index or the column that matches the vocabulary best.
    :class:`UserError`, with what each place holds instead, when none of them can be raw counts.
    """
    places = list(_places(adata, layer))
    if layer is not None and not places:
        known = ", ".join(["X", "raw.X", *adata.layers])
        raise UserError(f"{where}: there are no values in '{layer}'; expected one of {known}")
    found, refused = [], []
    for place, values, var in places:
        matrix = as_csr(values, f"{where}: {place}")
        genes = _gene_names(var, symbol_map, gene_key, where)
        problem = value_problem(matrix, "counts", True, adata.obs_names, genes)
        if problem is not None:
            refused.append(f"{place}: {problem}")
        else:
            found.append(Counts(matrix, genes, place, judge(matrix)))
    if not found:
        seen = "; ".join(refused) or "there is no X, no raw.X and no layer"
        raise UserError(f"{where}: no raw counts found; {seen}")
    best = min(found, key=lambda one: [*LINEAR, "empty"].index(one.values.nature))
    if best.place in ("raw.X", "layers['counts']", "X") or layer is not None:
        return best
    for other in found:  # layers of unknown names that hold different counts of one kind
        same_kind = other.values.nature == best.values.nature and other is not best
        if same_kind and (best.matrix.shape != other.matrix.shape or (best.matrix != other.matrix).nnz):
            raise UserError(
                f"{where}: {best.place} and {other.place} hold different {best.values.words}; say which are "
                "the raw counts (the setting `layer`), or put them into layers['counts']"
            )
    return best


_PARTS = ("spliced", "unspliced", "ambiguous", "mature", "nascent")
"""Layers of RNA velocity: whole counts, but not all of a cell's."""


def _places(adata: "AnnData", wanted: str | None) -> Iterator[tuple[str, Any, "pd.DataFrame"]]:
    """Places that can hold the counts, in the order of preference."""
    names = sorted(adata.layers, key=lambda name: (name != "counts", "count" not in name.lower(), name))
    places = [(f"layers['{name}']", name, adata.layers[name], adata.var) for name in names]
    if adata.X is not None:
        places.insert("counts" in adata.layers, ("X", "X", adata.X, adata.var))
    if adata.raw is not None and adata.raw.X is not None:
        places.insert(0, ("raw.X", "raw.X", adata.raw.X, adata.raw.var))
    wanted = "raw.X" if wanted == "raw" else wanted
    for place, name, matrix, var in places:
        if wanted in (place, name) or (wanted is None and name not in _PARTS):
            yield place, matrix, var


def as_csr(layer: Any, where: str) -> "csr_matrix":
    """A matrix of any kind (dense, sparse, on disk) as CSR in memory; a view where it is one already.

    One that is no matrix of real numbers is a :class:`UserError`, and one whose indices lead out of it: SciPy
    reads such memory.
    """
    from scipy.sparse import csr_matrix

    if hasattr(layer, "to_memory"):
        layer = layer.to_memory()
    elif not hasattr(layer, "tocsr"):
        layer = np.asarray(layer)
    if layer.dtype == np.float16:  # which scipy does not hold
        layer = layer.astype(np.float32)
    if layer.dtype.kind not in "biuf":
        raise UserError(f"{where}: holds {layer.dtype}, expected real numbers; save it as numbers")
    try:
        if hasattr(layer, "check_format"):
            layer.check_format(full_check=True)
        matrix = csr_matrix(layer)
    except (ValueError, TypeError, MemoryError) as error:
        raise UserError(f"{where}: the matrix is damaged ({one_line(error)}); {AGAIN}") from error
    if not matrix.has_canonical_format or not matrix.data.all():  # repeated or stored zero entries
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    return matrix


def symbol_columns(var: "pd.DataFrame") -> list[str]:
    """Columns that can name the genes: ``Gene Symbol`` is ``gene_symbol``."""
    return [c for c in var if re.sub(r"[ .-]", "_", str(c).lower()) in SYMBOL_COLUMNS]


def _gene_names(
    var: "pd.DataFrame", symbol_map: SymbolMap | None, key: str | None, where: str | Path
) -> list[str]:
    if key is not None and key not in var:
        raise UserError(f"{where}: var has no column '{key}' (gene_key); it has {', '.join(var) or 'none'}")
    if key is not None:
        return list(var[key].astype(str))
    choices = [var.index.astype(str), *(var[c].astype(str) for c in symbol_columns(var))]
    if symbol_map is None or len(choices) == 1:
        return list(choices[0])
    return list(max(choices, key=lambda names: int((symbol_map.genes(names) >= 0).sum())))


def run_check(
    file: str | Path,
    /,
    genes: str | Path | None = None,
    aliases: str | Path | None = None,
    model: str | Path | None = None,
) -> None:
    """Check whether an .h5ad, prepared or your own, holds raw counts and known genes.

    A prepared data set is held to its contract, any other file is searched for raw counts.

    Parameters
    ----------
    file
        The cells.
    genes, aliases
        The vocabulary of a run and its other names; without them genes are not matched.
    model
        Folder or file of a model: its genes are taken.

    Raises
    ------
    UserError
        When there is a problem; all of them are printed before.
    """
    from celllm.cells.formats import open_cells
    from celllm.cells.h5ad import is_sealed, verify

    if Path(file).is_file() and is_sealed(file):
        verify(file)
    adata = open_cells(file)
    if model is not None:
        genes = gene_list_of(Path(model))
        aliases = beside if (beside := genes.with_name("aliases.tsv")).is_file() else None
    vocabulary = Vocabulary.read(genes) if genes else None
    if "celllm" in adata.uns:
        stored = adata.uns["celllm"]
        lines = [
            f"{name}: {stored[name]}" for name in PROVENANCE if name in stored and name != "label_counts"
        ]
        labels = json.loads(stored.get("label_counts", "{}"))
        lines += [f"label {label}: {n} cells" for label, n in labels.items()]
        found = problems(adata, vocabulary)
    else:
        symbol_map = None if vocabulary is None else SymbolMap.read(aliases, vocabulary)
        lines, found = describe_counts(adata, find_counts(adata, symbol_map, file), symbol_map)
    print("\n".join([str(file), *(f"  {line}" for line in lines), *(f"  PROBLEM {line}" for line in found)]))
    _refuse(found, file)


def describe_counts(
    adata: "AnnData", counts: Counts, symbol_map: SymbolMap | None
) -> tuple[list[str], list[str]]:
    """Describe a user's file and list its problems, the one to mend first in front."""
    n_genes = np.diff(counts.matrix.indptr)
    note = "" if counts.whole else " (read as shares of their cell)"
    lines = [
        f"{adata.n_obs} cells x {len(counts.genes)} genes; "
        f"values in {counts.place}: {counts.values.words}{note}",
        f"expressed genes of a cell: median {int(np.median(n_genes)) if n_genes.size else 0}",
    ]
    for name in adata.obs:  # of few values for many cells can be labels or samples
        values = adata.obs[name].dropna().astype(str)
        shown = ", ".join(values.drop_duplicates().head(3)) + (", ..." if values.nunique() > 3 else "")
        lines.append(f"obs['{name}']: {values.nunique()} values in {len(values)} cells ({shown})")
    found = []
    if not n_genes.size:
        found.append("there is no cell in it")
    if not counts.genes:
        found.append("there is no gene in it")
    if (cell := first_repeat(adata.obs_names)) is not None:
        found.append(f"the cell id '{cell}' occurs twice; call adata.obs_names_make_unique()")
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
    if adata.n_obs and (symbol_map.genes(adata.obs_names[:1000]) >= 0).mean() > FEW:
        found[:] = ["the genes are in the rows; pass adata.T"]
    elif n_mapped == 0:
        found.append(
            f"no gene in common with the vocabulary (names here: {', '.join(map(repr, counts.genes[:3]))}); "
            "human gene symbols or Ensembl gene ids are expected"
        )
    else:
        lines.append("WARNING: very few genes match; are they human gene symbols or Ensembl gene ids?")
