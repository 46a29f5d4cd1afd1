"""Raw counts of somebody's cells, a block at a time, in the order of a vocabulary.

Data in memory are looked at as a whole; of a file the first cells decide where the counts stand, by the rule
of ``celllm check``, and every block is checked as it is read.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celllm.cells.check import as_csr, find_counts, symbol_columns
from celllm.cells.genes import GeneReport, SymbolMap, harmonise
from celllm.cells.values import value_problem
from celllm.errors import UserError, one_line

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

HEAD = 2000
"""Cells of a file that decide where its counts stand."""


@dataclass(frozen=True)
class RawCounts:
    """Counts that were found at ``place``: ``X``, ``raw.X`` or ``layers['...']``.

    ``selector``, (names, vocabulary) CSR, sums the columns of one gene and drops those of none;
    ``take(start, stop)`` gives these cells x names, CSR; ``report`` says what became of the names.
    """

    place: str
    cells: "pd.Index"
    report: GeneReport
    selector: "csr_matrix"
    take: Callable[[int, int], "csr_matrix"]

    def blocks(self, size: int = 4096) -> Iterator["csr_matrix"]:
        """Cells x vocabulary, float32 CSR with sorted indices, ``size`` cells at a time."""
        for start in range(0, len(self.cells), size):
            counts = self.take(start, start + size) @ self.selector
            counts.eliminate_zeros()
            counts.sort_indices()
            yield counts

    def summary(self) -> str:
        """One line on what was found."""
        n = self.report.n_in - self.report.n_unmapped
        return f"{len(self.cells)} cells, counts in {self.place}, {n} of {self.report.n_in} genes matched"


def raw_counts(
    data: "AnnData | str | Path", symbol_map: SymbolMap, layer: str | None = None, gene_key: str | None = None
) -> RawCounts:
    """Find the raw counts of an AnnData, or of an ``.h5ad`` file, and map its genes to a vocabulary.

    ``data`` is cells x genes, in memory, backed or a view, and never changed. ``layer`` (a layer's name,
    ``X`` or ``raw``) is the one place to look at. ``gene_key`` is the column of ``var`` with the names of the
    genes; without it the index or a usual column, whichever names more genes of the vocabulary, and for genes
    that it does not name the others. :class:`UserError` when there are no cells, no raw counts, no gene of
    the vocabulary, or no such layer or column.
    """
    from scipy.sparse import csr_matrix

    where = data if isinstance(data, str | Path) else "the AnnData"
    take, cells, in_memory = _source(data)
    if not len(cells):
        raise UserError(f"{where}: there is no cell in it")
    head = take(0, len(cells) if in_memory else HEAD)
    found = find_counts(head, symbol_map, where, layer, gene_key)
    names = found.genes if gene_key else _filled(found.genes, head, found.place, symbol_map)
    _, _, report = harmonise(found.matrix[:1], names, symbol_map, where)
    genes = symbol_map.genes(names)
    mapped = np.flatnonzero(genes >= 0)
    ones = np.ones(len(mapped), dtype=np.float32)
    shape = (len(names), len(symbol_map.vocabulary))
    selector = csr_matrix((ones, (mapped, genes[mapped])), shape=shape)

    def block(start: int, stop: int) -> "csr_matrix":
        if in_memory:
            return found.matrix[start:stop]
        part = take(start, stop)
        if found.place in ("X", "raw.X"):
            values = part.X if found.place == "X" else part.raw.X
        else:
            values = part.layers[found.place.removeprefix("layers['").removesuffix("']")]
        counts = as_csr(values, f"{where}: {found.place}")
        if (problem := value_problem(counts, "counts", True, part.obs_names, names)) is not None:
            raise UserError(f"{where}: {found.place}: {problem}")
        return counts

    counts = RawCounts(found.place, cells, report, selector, block)
    log.info("%s: %s", where, counts.summary())
    return counts


def _filled(names: list[str], adata: "AnnData", place: str, symbol_map: SymbolMap) -> list[str]:
    """The names, those of no gene replaced by what another column says where that is one."""
    var = adata.raw.var if place == "raw.X" else adata.var
    columns = [var.index, *(var[c] for c in symbol_columns(var))]
    genes, filled = symbol_map.genes(names), np.array(names, dtype=object)
    for column in columns:
        others = column.astype(str).to_numpy()
        better = (genes < 0) & (symbol_map.genes(others) >= 0)
        filled[better] = others[better]
        genes = np.where(better, 0, genes)
    return list(filled)


def _source(data: "AnnData | str | Path") -> tuple[Callable[[int, int], "AnnData"], "pd.Index", bool]:
    """How to take some cells as an AnnData in memory, the names of all, and whether all are in memory."""
    if isinstance(data, str | Path):
        file = _File(data)
        return file.take, file.obs.index, False
    if data.isbacked and not data.is_view:
        file = _File(data.filename)
        return file.take, data.obs_names, False
    here = data.to_memory() if data.isbacked else data  # views of backed data cannot be cut further
    return (lambda start, stop: here), data.obs_names, True


def read_obs(path: str | Path) -> "pd.DataFrame":
    """The ``obs`` of an ``.h5ad`` file, without its counts."""
    import h5py
    from anndata.io import read_elem

    with _readable(path), h5py.File(path, "r") as handle:
        obs: pd.DataFrame = read_elem(handle["obs"])
    return obs


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """What goes wrong while an ``.h5ad`` file is opened, as one line."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a complete .h5ad file ({one_line(error)[:200]})") from error


class _File:
    """An ``.h5ad`` file of which a few cells are read at a time.

    Layers too, which anndata's backed mode loads. What is stored by gene (CSC) is loaded whole.
    """

    def __init__(self, path: str | Path) -> None:
        import h5py
        from anndata.io import read_elem, sparse_dataset

        from celllm.cells import h5ad

        self.path = Path(path)
        with _readable(path), h5py.File(path, "r") as handle:
            self.obs, self.var = read_elem(handle["obs"])[[]], read_elem(handle["var"])
            self.raw_var = read_elem(handle["raw/var"]) if "raw" in handle else None
            self.layers = list(handle.get("layers", ()))
            matrices = ("X", "raw/X", *(f"layers/{layer}" for layer in self.layers))
            for name in matrices:
                if f"{name}/indptr" in handle:
                    pointers, n_values = handle[f"{name}/indptr"][:], len(handle[f"{name}/data"])
                    if pointers[0] != 0 or pointers[-1] != n_values or (np.diff(pointers) < 0).any():
                        raise ValueError(f"{name}: the index pointers do not go from 0 to {n_values}")
            self.loaded = {
                name: sparse_dataset(handle[name]).to_memory().tocsr()
                for name in matrices
                if name in handle and handle[name].attrs.get("encoding-type") == "csc_matrix"
            }
        if h5ad.is_sealed(path):
            h5ad.verify(path)

    def take(self, start: int, stop: int) -> "AnnData":
        """Cells ``start`` up to and without ``stop``."""
        import h5py
        from anndata import AnnData

        with _readable(self.path), h5py.File(self.path, "r") as handle:
            layers = {name: self._rows(handle, f"layers/{name}", start, stop) for name in self.layers}
            obs = self.obs.iloc[start:stop]
            made = AnnData(self._rows(handle, "X", start, stop), obs=obs, var=self.var, layers=layers)
            if self.raw_var is not None:
                made.raw = AnnData(self._rows(handle, "raw/X", start, stop), obs=obs, var=self.raw_var)
        return made

    def _rows(self, handle: "h5py.File", name: str, start: int, stop: int) -> Any:
        import h5py
        from anndata.io import sparse_dataset

        if name in self.loaded:
            return self.loaded[name][start:stop]
        if name not in handle:
            return None
        node = handle[name]
        return node[start:stop] if isinstance(node, h5py.Dataset) else sparse_dataset(node)[start:stop]
