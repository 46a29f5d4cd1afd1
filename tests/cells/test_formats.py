"""Cells in every kind of file: the same counts where a library here reads it, its name where none does."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from celllm.cells.check import find_counts
from celllm.cells.counts import raw_counts
from celllm.cells.formats import open_cells
from celllm.cells.genes import SymbolMap, Vocabulary
from celllm.errors import UserError

COUNTS = np.array([[1, 0, 20, 4], [0, 3, 0, 0], [5, 6, 0, 7]], dtype=np.float32)
GENES, CELLS = ["ACTB", "CD4", "GATA1", "SEPTIN2"], ["c1", "c2", "c3"]


def _adata() -> anndata.AnnData:
    return anndata.AnnData(csr_matrix(COUNTS), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))


def _h5ad(path: Path) -> None:
    _adata().write_h5ad(path)


def _h5ad_gz(path: Path) -> None:
    plain = path.with_suffix(".plain")
    _h5ad(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def _zarr(path: Path) -> None:
    _adata().write_zarr(path)


def _mudata(path: Path) -> None:
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "mod/rna", _adata())
        anndata.io.write_elem(file, "mod/prot", _adata()[:, :2].copy())


def _cell_ranger(path: Path, old: bool = False) -> None:
    by_gene = csc_matrix(np.hstack([COUNTS, np.full((3, 0 if old else 1), 9)]).T)
    names = [*GENES] if old else [*GENES, "CD3-antibody"]
    with h5py.File(path, "w") as file:
        group = file.create_group("GRCh38" if old else "matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(by_gene, key)
        group["shape"], group["barcodes"] = by_gene.shape, np.array(CELLS, dtype="S9")
        ids = np.array([f"ENSG{i:011d}" for i in range(len(names))], dtype="S20")
        if old:
            group["genes"], group["gene_names"] = ids, np.array(names, dtype="S20")
        else:
            types = ["Gene Expression"] * 4 + ["Antibody Capture"]
            for key, values in (("id", ids), ("name", names), ("feature_type", types)):
                group[f"features/{key}"] = np.array(values, dtype="S20")


def _loom(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["matrix"] = COUNTS.T
        file["row_attrs/Gene"], file["col_attrs/CellID"] = np.array(GENES, "S9"), np.array(CELLS, "S9")


READ: dict[str, Callable[[Path], Any]] = {
    "x.h5ad": _h5ad, "x.h5ad.gz": _h5ad_gz, "gz.h5ad": _h5ad_gz, "x.zarr": _zarr, "x.h5mu": _mudata,
    "v3.h5": _cell_ranger, "v2.h5": lambda path: _cell_ranger(path, old=True), "x.loom": _loom,
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_the_same_counts_come_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    READ[name](tmp_path / name)
    found = open_cells(tmp_path / name)
    assert (found.obs_names.tolist(), found.var_names.tolist()) == (CELLS, GENES)
    np.testing.assert_array_equal(csr_matrix(found.X).toarray(), COUNTS)


def _two_genomes(path: Path) -> None:
    _cell_ranger(path, old=True)
    with h5py.File(path, "a") as file:
        file.copy("GRCh38", "mm10")


def _no_rna(path: Path) -> None:
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "mod/atac", _adata())
        anndata.io.write_elem(file, "mod/prot", _adata())


def _other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["weights"] = [1, 2]


def _cut(path: Path) -> None:
    _h5ad(path)
    path.write_bytes(path.read_bytes()[:-3000])


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "x.py")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_two_genomes, r"holds several genomes \(GRCh38, mm10\); export one"),
        (_no_rna, r"a MuData file without a modality 'rna' \(it has atac, prot\)"),
        (_other_hdf5, r"is an HDF5 file of another kind \(it holds weights\); expected are cells as"),
        (_cut, r"not a complete \.h5ad file .*delete the file and download it again"),
        (_tar, "is a tar archive; expected are cells as"),
        (Path.mkdir, "is a folder; expected are cells as"),
        (lambda p: p.write_bytes(b""), r"not a complete \.h5ad file: it is empty"),
        (
            lambda p: p.write_bytes(gzip.compress(b"X\n\0\0\0\3\0\4")),
            "is an R object written by saveRDS .*writeH5AD",
        ),
        (lambda p: p.write_bytes(gzip.compress(b"RDX3\nX\n\0")), "is an R workspace .*writeH5AD"),
        (lambda p: p.write_bytes(b"PK\3\4" + bytes(99)), "is an Excel workbook"),
        (lambda p: p.write_bytes(b"ARROW1\0\0" + bytes(99)), "is an Arrow or Feather file"),
        (lambda p: p.write_bytes(b"PAR1" + bytes(99)), "is a Parquet file"),
        (lambda p: p.write_bytes(b"\x80\x04\x95" + bytes(99)), "is a Python pickle"),
        (lambda p: p.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(99)), "is a 7-zip archive; unpack it"),
        (lambda p: p.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(99)), "is compressed with zstd; unpack it"),
        (lambda p: p.write_text("<!DOCTYPE html>"), r"is a web page \(HTML\)"),
        (
            lambda p: p.write_text("%%MatrixMarket matrix coordinate\n"),
            "is a matrix in Matrix Market's format",
        ),
        (lambda p: p.write_text("version https://git-lfs.github.com\n"), "is a pointer of Git LFS"),
        (lambda p: p.symlink_to("nowhere"), "no such file"),
        (lambda p: p.symlink_to("x"), "cannot be read"),
        (lambda p: p.write_text("gene,c1\nACTB,1\n"), r"not a complete \.h5ad file: it is no HDF5 file"),
    ],
)
def test_a_file_of_another_kind_is_named_in_one_line(
    tmp_path: Path, write: Callable[[Path], Any], message: str
) -> None:
    write(tmp_path / "x")
    with pytest.raises(UserError, match=f"x: {message}") as raised:
        open_cells(tmp_path / "x")
    assert "\n" not in str(raised.value)


VOCABULARY = Vocabulary(tuple(GENES), ("",) * len(GENES))


def _set(key: str, place: int, value: int) -> Callable[[Any], None]:
    return lambda file: file[f"X/{key}"].__setitem__(place, value)


def _shorten(file: Any) -> None:
    values = file["X/data"][:-1]
    del file["X/data"]
    file["X/data"] = values


@pytest.mark.parametrize(
    "damage",
    [
        _set("indices", 0, -1), _set("indices", 0, 99), _set("indptr", 0, 1), _set("indptr", 1, 6),
        _set("indptr", -1, 3), _set("indptr", 1, 2**31 - 2), _shorten,
        lambda file: file["X"].attrs.__setitem__("shape", [3, 2]),
        lambda file: file.__delitem__("var"), lambda file: file["var"].__delitem__("_index"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_block", [False, True])
def test_a_sparse_matrix_that_leads_out_of_itself_is_one_line(
    tmp_path: Path, damage: Callable[[Any], None], by_block: bool
) -> None:
    _h5ad(tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad", "r+") as file:
        damage(file)
    with pytest.raises(UserError, match=r"x\.h5ad: ") as raised:
        if by_block:
            list(raw_counts(tmp_path / "x.h5ad", SymbolMap(VOCABULARY, ())).blocks())
        else:
            find_counts(open_cells(tmp_path / "x.h5ad"), where=tmp_path / "x.h5ad")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"]
)
def test_whole_counts_of_every_type_are_read(dtype: str) -> None:
    data = anndata.AnnData(COUNTS.astype(dtype), var=pd.DataFrame(index=GENES))
    np.testing.assert_array_equal(find_counts(data).matrix.toarray(), COUNTS)


@pytest.mark.parametrize(
    "column", ["feature_name", "Gene Symbol", "gene.name", "Symbol", "name", "gene-symbols"]
)
def test_gene_names_in_a_column_are_found(column: str) -> None:
    var = pd.DataFrame({column: GENES}, index=[f"{i}" for i in range(4)])
    assert find_counts(anndata.AnnData(COUNTS, var=var), SymbolMap(VOCABULARY, ())).genes == GENES


def test_numbers_that_are_not_real_are_refused() -> None:
    with pytest.raises(UserError, match="the data: X: holds complex128, expected real numbers"):
        find_counts(anndata.AnnData(COUNTS.astype(complex), var=pd.DataFrame(index=GENES)))
