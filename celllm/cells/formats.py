"""Files of cells that are no plain .h5ad: read where a library here reads them, named where none does."""

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from celllm.errors import UserError, one_line
from celllm.sources.archives import kind_of, open_bytes, opened
from celllm.sources.delimited import AGAIN

if TYPE_CHECKING:
    from anndata import AnnData

_HDF5 = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "expected are cells as .h5ad, .zarr, .h5mu, Loom or Cell Ranger's .h5"
_CONVERT = "write it as .h5ad in R, for instance with zellkonverter::writeH5AD"


def open_cells(path: str | Path) -> "AnnData":
    """Open a ``.h5ad`` (also in gzip), a zarr folder, MuData (its RNA), Loom or Cell Ranger's ``.h5``.

    :class:`UserError` for a missing or damaged file, or one of another kind (named, with what to do).
    """
    import anndata

    path = Path(path)
    if path.is_dir():
        if not any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata")):
            raise UserError(f"{path}: is a folder; {_EXPECTED}")
        try:
            return anndata.read_zarr(path)
        except Exception as error:  # damage surfaces anywhere in anndata and zarr
            detail = one_line(error)[:200]
            raise UserError(f"{path}: not a complete zarr folder ({detail}); {AGAIN}") from error
    with opened(path) as handle:
        start = handle.read(512)
    if start.startswith(b"\x1f\x8b"):
        with open_bytes(path) as stream:
            start = stream.peek(512)[:512]
            if start.startswith(_HDF5):
                return _open_hdf5(path, io.BytesIO(stream.read()))
    if start.startswith(_HDF5):
        return _open_hdf5(path, path)
    kind = "a web page (HTML)" if start.lstrip().startswith(b"<") else kind_of(start)
    if kind:
        raise UserError(f"{path}: is {kind}; {_CONVERT if 'an R ' in kind else _EXPECTED}")
    what = "it is no HDF5 file" if start else "it is empty"
    raise UserError(f"{path}: not a complete .h5ad file: {what}; {_EXPECTED}; if it should be one, {AGAIN}")


def _open_hdf5(path: Path, source: Path | IO[bytes]) -> "AnnData":
    import anndata
    import h5py

    try:
        with h5py.File(source, "r") as file:
            if "mod" in file:
                return _mudata(path, file)
            if {"row_attrs", "col_attrs", "matrix"} <= set(file):
                return _loom(path, file)
            genomes = [
                name for name in file if isinstance(file[name], h5py.Group) and "barcodes" in file[name]
            ]
            if genomes:
                return _cell_ranger(path, file, genomes)
            if "obs" not in file or "var" not in file:
                held = ", ".join(list(file)[:6]) or "nothing"
                raise UserError(f"{path}: is an HDF5 file of another kind (it holds {held}); {_EXPECTED}")
            if isinstance(source, io.BytesIO):
                return anndata.io.read_elem(file)
        return anndata.read_h5ad(source)
    except UserError:
        raise
    except Exception as error:  # damage surfaces anywhere in anndata, whose own errors are private
        detail = one_line(error)[:200]
        if "IOSpec" in str(error):
            raise UserError(
                f"{path}: anndata {anndata.__version__} cannot read a part of it ({detail}); "
                "write it again with that version"
            ) from error
        raise UserError(f"{path}: not a complete .h5ad file ({detail}); {AGAIN}") from error


def _mudata(path: Path, file: Any) -> "AnnData":
    import anndata

    names = list(file["mod"])
    chosen = [name for name in names if name.lower() in ("rna", "gex", "gene expression")] or names
    if len(chosen) != 1:
        raise UserError(
            f"{path}: a MuData file without a modality 'rna' (it has {', '.join(names)}); save one as .h5ad"
        )
    return anndata.io.read_elem(file["mod"][chosen[0]])


def _cell_ranger(path: Path, file: Any, genomes: list[str]) -> "AnnData":
    """Cell Ranger's .h5: one group ``matrix`` from version 3 on, one per genome before."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    if len(genomes) > 1:
        raise UserError(f"{path}: holds several genomes ({', '.join(genomes)}); export one of them")
    group = file[genomes[0]]
    features = group.get("features", group)
    ids, symbols = (
        _text(features[a if a in features else b]) for a, b in (("id", "genes"), ("name", "gene_names"))
    )
    parts = (group[name][:] for name in ("data", "indices", "indptr"))
    n_genes, n_cells = (int(n) for n in group["shape"][:])
    matrix = csr_matrix(tuple(parts), shape=(n_cells, n_genes))
    matrix.check_format(full_check=True)
    var = pd.DataFrame({"gene_ids": ids}, index=pd.Index(symbols, dtype=object))
    kept = np.ones(n_genes, dtype=bool)
    if "feature_type" in features:
        kept = np.array(_text(features["feature_type"])) == "Gene Expression"
    obs = pd.DataFrame(index=pd.Index(_text(group["barcodes"]), dtype=object))
    return anndata.AnnData(matrix[:, np.flatnonzero(kept)], obs=obs, var=var[kept])


def _loom(path: Path, file: Any) -> "AnnData":
    """Loom: a dense matrix of genes x cells, read in blocks of cells."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix, vstack

    def table(group: Any, names: tuple[str, ...], n: int) -> pd.DataFrame:
        columns = {key: _text(group[key]) for key in group if group[key].shape == (n,)}
        index = next((columns[name] for name in names if name in columns), None)
        if index is None:
            raise UserError(
                f"{path}: a Loom file without {names[0]} (it has {', '.join(columns) or 'no names'})"
            )
        return pd.DataFrame(columns, index=pd.Index(index, dtype=object))

    n_genes, n_cells = file["matrix"].shape
    var = table(file["row_attrs"], ("Gene", "var_names", "GeneName", "gene_names", "Accession"), n_genes)
    obs = table(file["col_attrs"], ("CellID", "obs_names", "barcode"), n_cells)
    blocks = [csr_matrix(file["matrix"][:, i : i + 1024].T) for i in range(0, n_cells, 1024)]
    return anndata.AnnData(vstack(blocks, format="csr"), obs=obs, var=var)


def _text(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values[:]]
