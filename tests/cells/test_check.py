import re
import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from celllm.cells import h5ad
from celllm.cells.check import check, find_counts, problems, run_check
from celllm.cells.prepare import prepare
from celllm.cells.raw import RawCells
from celllm.cells.settings import CellOptions
from celllm.cells.values import value_problem
from celllm.errors import UserError

COUNTS = np.array([[1, 0, 20, 4], [0, 3, 0, 0], [5, 6, 0, 7]], dtype=np.float32)
GENES = ["ACTB", "CD4", "GATA1", "SEPTIN2"]


@pytest.fixture
def good(gene_files) -> anndata.AnnData:
    obs = pd.DataFrame({"sample": "s", "label": ["a", "b", "b"]}, index=["c1", "c2", "c3"])
    return prepare(RawCells(csr_matrix(COUNTS), GENES, obs), gene_files.symbol_map, CellOptions())


def test_a_good_data_set_has_no_problem(good, gene_files):
    assert problems(good, gene_files.vocabulary, "counts") == []
    check(good, gene_files.vocabulary)


def _change(adata: anndata.AnnData, entry: int, value: float) -> anndata.AnnData:
    adata.X.data[entry] = value
    return adata


def _names(adata: anndata.AnnData, axis: str, names: list[str]) -> anndata.AnnData:
    setattr(adata, axis, names)
    return adata


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda a: _change(a, 0, np.nan), "the value nan of cell 'c1', gene 'ACTB' is not a finite number"),
        (lambda a: _change(a, 3, np.inf), "the value inf of cell 'c2', gene 'CD4' is not a finite number"),
        (
            lambda a: _change(a, 1, -2),
            "the value -2 of cell 'c1', gene 'GATA1' is negative; raw counts are expected",
        ),
        (
            lambda a: _change(a, 2, 4.5),
            "the value 4.5 of cell 'c1', gene 'SEPTIN2' is a fraction; whole raw counts",
        ),
        (lambda a: _change(a, 1, 2.5), "the value 2.5 of cell 'c1', gene 'GATA1' is a fraction; whole raw"),
        (lambda a: _names(a, "obs_names", ["c1", "c1", "c3"]), "the cell 'c1' occurs twice"),
        (
            lambda a: _names(a, "var_names", ["ACTB", "CD4", "CD4", "SEPTIN2"]),
            "the gene 'CD4' occurs twice",
        ),
        (
            lambda a: _names(a, "var_names", ["ACTB", "CD4", "ZZZ", "SEPTIN2"]),
            "the gene 'ZZZ' is not in the vocabulary",
        ),
        (lambda a: a[:, ::-1].copy(), "the genes are not in the order of the vocabulary"),
        (lambda a: _set(a, X=csc_matrix(a.X)), "X must be CSR float32, got csc float32"),
        (lambda a: _set(a, X=a.X.astype(np.float64)), "X must be CSR float32, got csr float64"),
        (lambda a: _set(a, X=a.X.toarray()), "X must be CSR float32, got ndarray float32"),
        (
            lambda a: _set(a, uns={}),
            r"uns\['celllm'\] is missing or incomplete; make the file with `celllm prepare`",
        ),
        (lambda a: _set(a, obs=a.obs.drop(columns="sample")), r"obs\['sample'\] is missing"),
        (lambda a: _set(a, obs=a.obs.assign(label=["a", None, "b"])), "1 cells have no label"),
        (
            lambda a: _set(a, obs=a.obs.assign(tumour=[0, 1, 0])),
            r"obs\['tumour'\] must be true or false, got int64",
        ),
        (lambda a: _zero(a), "1 cells express no gene, e.g. 'c2'"),
    ],
)
def test_whatever_breaks_the_contract_is_named(good, gene_files, break_it, problem):
    broken = break_it(good)
    assert len(problems(broken, gene_files.vocabulary)) >= 1
    with pytest.raises(UserError, match=f"^a.h5ad: {problem}") as raised:
        check(broken, gene_files.vocabulary, where="a.h5ad")
    assert "\n" not in str(raised.value)


def _set(adata: anndata.AnnData, **parts: Any) -> anndata.AnnData:
    for name, value in parts.items():
        setattr(adata, name, value)
    return adata


def _zero(adata: anndata.AnnData) -> anndata.AnnData:
    counts = adata.X.toarray()
    counts[1] = 0
    adata.X = csr_matrix(counts)
    return adata


def test_another_kind_of_values_is_refused(good):
    assert problems(good, values="tpm") == ["the values are 'counts', expected 'tpm'"]


def test_further_problems_are_counted(good):
    good.obs_names = ["c1", "c1", "c3"]
    good.X.data[0] = -1
    with pytest.raises(UserError, match=r"the cell 'c1' occurs twice \(and 1 more\)$"):
        check(good)


@pytest.mark.parametrize(
    ("values", "kind", "fractions", "problem"),
    [
        ([1, 2, 3], "counts", False, None),
        ([], "counts", False, None),
        ([0.5, 100], "counts", True, None),
        ([0.5, 1, 2, 3], "counts", True, None),  # shared-out reads of a small sample
        ([0.7, 1.3, 2.6], "counts", True, "log-transformed"),
        ([0.5, 16], "counts", False, "fraction"),
        ([0.5, 14], "counts", False, "fraction"),
        ([0.5, 16], "tpm", False, None),
        ([1, 14], "tpm", False, "log-transformed"),
        ([0.5, 16], "log2_tpm", False, None),
        ([0.5, 31], "log2_tpm", False, "too large for log2"),
        ([-0.1], "log2_tpm", False, r"negative; log2\(TPM \+ 1\) is expected"),
    ],
)
def test_kinds_of_values(values, kind, fractions, problem):
    matrix = csr_matrix(np.array([values], dtype=np.float32).reshape(1, -1))
    found = value_problem(matrix, kind, fractions, ["c"], [f"g{i}" for i in range(len(values))])
    assert found is None if problem is None else re.search(problem, str(found))


def _user(matrix: Any, genes: list[str] = GENES, **parts: Any) -> anndata.AnnData:
    adata = anndata.AnnData(matrix, obs=pd.DataFrame(index=["c1", "c2", "c3"]), var=pd.DataFrame(index=genes))
    return _set(adata, **parts)


LOGGED = np.log1p(COUNTS)


def _with_layer() -> anndata.AnnData:
    adata = _user(LOGGED)
    adata.layers["counts"] = COUNTS
    return adata


def _with_raw(raw: np.ndarray, rest: np.ndarray) -> anndata.AnnData:
    adata = _user(raw)
    adata.raw = adata.copy()
    adata.X = rest
    return adata


@pytest.mark.parametrize(
    ("adata", "place"),
    [
        (_user(COUNTS), "X"),
        (_user(csc_matrix(COUNTS)), "X"),
        (_user(csr_matrix(COUNTS.astype(np.int32))), "X"),
        (_user(COUNTS.astype(np.float64)), "X"),
        (_with_layer(), "layers['counts']"),
        (_with_raw(COUNTS, LOGGED), "raw.X"),
        (_with_raw(LOGGED, COUNTS), "X"),  # scanpy's raw: logarithms
        (_user(COUNTS)[[0, 1, 2]], "X"),
    ],
)
def test_counts_are_found_where_they_stand_and_nothing_is_changed(adata, place):
    before = adata.copy()
    found = find_counts(adata)
    assert found.place == place
    assert found.whole
    np.testing.assert_array_equal(found.matrix.toarray(), COUNTS)
    assert found.genes == GENES
    np.testing.assert_array_equal(np.asarray(csr_matrix(adata.X).todense()), csr_matrix(before.X).toarray())


def test_counts_are_found_in_a_file_left_on_disk(tmp_path):
    found = find_counts(anndata.read_h5ad(_write(tmp_path, _user(csr_matrix(COUNTS))), backed="r"))
    assert (found.place, found.whole) == ("X", True)
    np.testing.assert_array_equal(found.matrix.toarray(), COUNTS)


def test_symbols_are_taken_from_the_column_that_matches(gene_files):
    var = pd.DataFrame({"feature_name": GENES}, index=["id1", "id2", "id3", "id4"])
    found = find_counts(_user(COUNTS, list(var.index), var=var), gene_files.symbol_map)
    assert found.genes == GENES


def test_without_counts_every_place_is_told():
    with pytest.raises(
        UserError,
        match=r"^my\.h5ad: no raw counts found; raw\.X: the values are ln.*; X: the value -",
    ) as raised:
        find_counts(_with_raw(LOGGED, COUNTS - 3), where="my.h5ad")
    assert "\n" not in str(raised.value)


def _write(folder: Path, adata: anndata.AnnData) -> Path:
    path = folder / "my.h5ad"
    adata.write_h5ad(path)
    return path


def test_a_user_s_file_is_described(tmp_path, gene_files, capsys):
    adata = _user(COUNTS, ["ACTB", "GF1", "GATA1", "nothing"])
    run_check(_write(tmp_path, adata), gene_files.genes, gene_files.aliases)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  3 cells x 4 genes; values in X: whole counts",
        "  expressed genes of a cell: median 3",
        "  3 of 4 genes are in the vocabulary of 11",
    ]


@pytest.mark.parametrize("given", ["folder", "file", "run"])
def test_genes_of_a_model_are_taken(tmp_path, gene_files, capsys, given):
    model = tmp_path / "run/checkpoints/mine"
    model.mkdir(parents=True)
    (model / "encoder.safetensors").touch()
    beside = tmp_path / "run/prepared" if given == "run" else model
    beside.mkdir(exist_ok=True)
    shutil.copy(gene_files.genes, beside / "genes.tsv")
    shutil.copy(gene_files.aliases, beside / "aliases.tsv")
    adata = _user(COUNTS, ["ACTB", "GF1", "GATA1", "nothing"])  # GF1 is another name
    run_check(_write(tmp_path, adata), model=model / "encoder.safetensors" if given == "file" else model)
    assert "3 of 4 genes are in the vocabulary of 11" in capsys.readouterr().out
    (beside / "genes.tsv").unlink()
    with pytest.raises(UserError, match=r"no genes\.tsv beside it .*`celllm export`"):
        run_check(_write(tmp_path, adata), model=model)


def test_repeated_gene_names_and_fractions_are_no_problem(tmp_path, gene_files, capsys):
    counts = COUNTS.copy()
    counts[0, 0] = 0.5
    adata = _user(counts, ["ACTB", "ACTB", "ENSG00000102145.4", "x"])
    run_check(_write(tmp_path, adata), gene_files.genes)
    text = capsys.readouterr().out
    assert "values in X: counts with fractions (86% whole) (read as shares of their cell)" in text
    assert "1 gene names are repeats; their counts are summed" in text
    assert "3 of 4 genes are in the vocabulary of 11" in text


@pytest.mark.parametrize(
    ("adata", "message"),
    [
        (
            _set(_user(COUNTS), obs_names=["c1", "c1", "c2"]),
            "the cell id 'c1' occurs twice; call adata.obs_names_make",
        ),
        (_user(COUNTS * np.array([[1], [0], [1]])), "1 cells have no counts at all; remove them"),
        (
            _user(COUNTS, ["w", "x", "y", "z"]),
            r"no gene in common with the vocabulary \(names here: 'w', 'x', 'y'\)",
        ),
        (
            _set(_user(COUNTS[:, :3].T, ["c1", "c2", "c3"]), obs_names=GENES[:3]),
            "the genes are in the rows; pass",
        ),
        (_user(LOGGED), r"no raw counts found; X: the values are ln\(x \+ 1\) of whole counts"),
        (_user(COUNTS)[:0].copy(), "there is no cell in it"),
    ],
)
def test_a_problem_of_a_user_s_file_is_an_error(tmp_path, gene_files, capsys, adata, message):
    with pytest.raises(UserError, match=message) as raised:
        run_check(_write(tmp_path, adata), gene_files.genes, gene_files.aliases)
    assert "\n" not in str(raised.value)
    printed = capsys.readouterr().out
    assert ("PROBLEM" in printed) == ("no raw counts" not in message)


def test_few_matching_genes_are_a_warning(tmp_path, gene_files, capsys):
    counts = np.ones((3, 30), dtype=np.float32) * 20
    adata = _user(counts, ["ACTB", *(f"x{i}" for i in range(29))])
    run_check(_write(tmp_path, adata), gene_files.genes, gene_files.aliases)
    assert "WARNING: very few genes match" in capsys.readouterr().out


def test_a_prepared_file_is_held_to_its_contract(tmp_path, good, gene_files, capsys):
    path = tmp_path / "good.h5ad"
    h5ad.write(good, path)
    run_check(path, gene_files.genes)
    text = capsys.readouterr().out
    assert "n_cells_out: 3" in text
    assert "label b: 2 cells" in text
    good.var_names = ["ACTB", "CD4", "ZZZ", "SEPTIN2"]
    h5ad.write(good, path)
    with pytest.raises(UserError, match=r"good\.h5ad: the gene 'ZZZ' is not in the vocabulary of this run"):
        run_check(path, gene_files.genes)


@pytest.mark.parametrize("content", [b"", b"<html></html>"])
def test_a_file_of_another_kind_is_one_line(tmp_path, content):
    path = tmp_path / "my.h5ad"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"my\.h5ad: (not a complete \.h5ad file|is a web page)"):
        run_check(path)
    with pytest.raises(UserError, match="no such file"):
        run_check(tmp_path / "no.h5ad")
