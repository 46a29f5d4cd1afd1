import gzip
import importlib
import io
import json
import logging
import tarfile
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.cells.prepare import SOURCES, is_tumour, prepare, run_prepare
from celllm.cells.raw import RawCells
from celllm.cells.settings import CellOptions
from celllm.errors import UserError

ANY: dict[str, Any] = {"max_unknown": 1}
GENES = ["GF1", "unknown", "ACTB", "GATA1", "CD4"]
CELLS = ["c1", "c2", "c3", "c4"]
COUNTS = np.array([[1, 9, 2, 4, 0], [0, 9, 0, 0, 3], [0, 9, 0, 0, 0], [5, 0, 6, 0, 7]])


def label_counts(path: Path) -> dict[str, int]:
    return json.loads(h5ad.read(path).uns["celllm"]["label_counts"])


def _raw(counts: Any = COUNTS, **changes: Any) -> RawCells:
    obs = pd.DataFrame({"sample": "s", "label": ["a", "b", "b", "t_cell"]}, index=CELLS)
    raw = RawCells(csr_matrix(np.asarray(counts, dtype=np.float32)), list(GENES), obs)
    for name, value in changes.items():
        setattr(raw, name, value)
    return raw


def _baron(folder: Path, rows: list[str], genes: str = "GF1,unknown,ACTB,GATA1,CD4") -> dict[str, Path]:
    content = gzip.compress("\n".join([f",barcode,assigned_cluster,{genes}", *rows, ""]).encode())
    entry = tarfile.TarInfo("GSM2230757_human1_umifm_counts.csv.gz")
    entry.size = len(content)
    path = folder / "GSE84133_RAW.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return {"matrix": path}


ROWS = ["human1_1,AC,beta,1,9,2,4,0", "human1_2,AC,alpha,0,9,0,0,3", "human1_3,AC,t_cell,5,0,6,0,7"]


@pytest.fixture
def names(gene_files) -> dict[str, Path]:
    return {"genes": gene_files.genes, "aliases": gene_files.aliases}


def test_the_prepared_data_set_keeps_the_contract(tmp_path, names, gene_files):
    out = tmp_path / "prepared" / "baron.h5ad"
    run_prepare("baron", _baron(tmp_path, ROWS), settings=ANY, out=out, **names)
    adata = h5ad.read(out, gene_files.vocabulary)
    assert adata.var_names.tolist() == ["ACTB", "CD4", "GATA1"]
    assert adata.obs_names.tolist() == ["human1_1", "human1_2"]
    np.testing.assert_array_equal(adata.X.toarray(), [[2, 0, 5], [0, 3, 0]])
    assert (adata.X.format, adata.X.dtype) == ("csr", np.float32)
    assert adata.obs["label"].tolist() == ["beta", "alpha"]
    assert adata.obs["label"].dtype == "category"
    assert adata.obs["sample"].tolist() == ["human1", "human1"]
    stored = adata.uns["celllm"]
    assert set(stored) == set(PROVENANCE)
    numbers = {name: int(stored[name]) for name in PROVENANCE if name.startswith("n_")}
    assert numbers == {
        "n_cells_in": 3, "n_cells_out": 2, "n_genes_in": 5, "n_genes_out": 3, "n_merged_symbols": 1,
        "n_unmapped": 1,
    }  # fmt: skip
    assert (stored["source"], stored["values"], bool(stored["fractions"])) == ("baron", "counts", False)
    assert json.loads(stored["files"]) == {"matrix": "GSE84133_RAW.tar"}
    assert json.loads(stored["options"])["drop_labels"] == ["t_cell"]
    assert label_counts(out) == {"alpha": 1, "beta": 1}
    assert [path.name for path in out.parent.iterdir()] == ["baron.h5ad"]


def test_the_same_input_gives_the_same_bytes(tmp_path, names):
    files = _baron(tmp_path, ROWS)
    for name in ("one", "two"):
        run_prepare("baron", files, settings=ANY, out=tmp_path / f"{name}.h5ad", **names)
    assert (tmp_path / "one.h5ad").read_bytes() == (tmp_path / "two.h5ad").read_bytes()


def test_any_program_opens_a_prepared_data_set(tmp_path, names):
    run_prepare("baron", _baron(tmp_path, ROWS), settings=ANY, out=tmp_path / "out.h5ad", **names)
    assert anndata.read_h5ad(tmp_path / "out.h5ad").shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, ["c1", "c2", "c4"]),  # c3 has no gene of the vocabulary
        ({"min_genes": 2}, ["c1", "c4"]),  # ACTB and GATA1 from two names; three
        ({"min_genes": 3}, ["c4"]),
        ({"min_genes": 3, "filter_genes": "all"}, ["c1", "c4"]),
        ({"min_genes": 1, "filter_genes": "list"}, ["c1", "c4"]),
        ({"drop_labels": ("b",)}, ["c1", "c4"]),
        ({"drop_labels": ("b", "t_cell")}, ["c1"]),
    ],
)
def test_which_cells_stay(gene_files, options, kept):
    adata = prepare(
        _raw(), gene_files.symbol_map, CellOptions(max_unknown=1, **options), listed=frozenset(["ACTB"])
    )
    assert adata.obs_names.tolist() == kept


def test_a_dropped_label_that_nobody_has_is_a_warning(gene_files, caplog):
    prepare(_raw(), gene_files.symbol_map, CellOptions(max_unknown=1, drop_labels=("T_cell",)))
    assert "no cell has the label 'T_cell' of drop_labels" in caplog.messages


def test_counts_in_and_out_are_told(gene_files, caplog):
    with caplog.at_level(logging.INFO):
        prepare(_raw(report={"n_donors": 4}), gene_files.symbol_map, CellOptions(max_unknown=1), "a.csv")
    assert "a.csv: n_donors 4" in caplog.messages
    assert "a.csv: 3 of 4 cells kept" in caplog.messages
    assert (
        "a.csv: 5 gene names -> 3 genes of the vocabulary; 1 renamed, 1 unknown, 1 summed of several"
        in caplog.messages
    )
    assert "a.csv: summed: GATA1" in caplog.messages
    assert "a.csv: the class 'a' has one cell: it cannot be split by class" in caplog.messages


def test_the_genes_of_a_list_are_counted_by_their_names_in_the_file(tmp_path, names):
    files = _baron(tmp_path, ROWS) | {"gene_list": tmp_path / "scbert.txt"}
    files["gene_list"].write_text("unknown\nGATA1\n")
    settings = ANY | {"min_genes": 2, "filter_genes": "list"}
    run_prepare("baron", files, settings=settings, out=tmp_path / "out.h5ad", **names)
    assert h5ad.read(tmp_path / "out.h5ad").obs_names.tolist() == ["human1_1"]
    del files["gene_list"]
    with pytest.raises(UserError, match="baron: filter_genes is 'list', but the file 'gene_list' is missing"):
        run_prepare("baron", files, settings=settings, out=tmp_path / "no.h5ad", **names)


def test_logarithms_are_taken_after_the_genes_are_summed(gene_files):
    raw = _raw(values="tpm", take_log=True)
    adata = prepare(raw, gene_files.symbol_map, CellOptions(max_unknown=1))
    assert adata.uns["celllm"]["values"] == "log2_tpm"
    np.testing.assert_allclose(adata.X.toarray()[0], np.log2([3, 1, 6]), rtol=1e-6)


def _run(source, **arguments):
    run_prepare(source, **arguments)


def _cancerscem(folder: Path) -> dict[str, Any]:
    (folder / "LGG.tsv").write_text("ACGTACGTACGTACGT-1\tCCGTACGTACGTACGT-1\nGATA1\t2\t0\nACTB\t1\t3\n")
    (folder / "samples.tsv").write_text("sample\ttumour\nLGG-1\t1\nLGG-2\t0\nLGG-3\tmaybe\n")
    return {
        "source": "cancerscem",
        "files": {"matrix": folder / "LGG.tsv"},
        "settings": ANY | {"min_genes": 1},
        "out": folder / "out.h5ad",
        "samples": folder / "samples.tsv",
    }


@pytest.mark.parametrize(("sample", "tumour"), [("LGG-1", True), ("LGG-2", False)])
def test_cells_of_a_sample_carry_its_name_and_tumour_label(tmp_path, names, sample, tumour):
    _run(**_cancerscem(tmp_path), sample=sample, **names)
    adata = h5ad.read(tmp_path / "out.h5ad")
    assert adata.obs_names.tolist() == [f"{sample}:ACGTACGTACGTACGT-1", f"{sample}:CCGTACGTACGTACGT-1"]
    assert adata.obs["tumour"].dtype == bool
    assert adata.obs["tumour"].tolist() == [tumour, tumour]
    assert set(adata.obs["sample"]) == {sample}


def test_a_sample_without_cells_is_a_prepared_data_set(tmp_path, names):
    arguments = _cancerscem(tmp_path) | {"settings": {"min_genes": 200, "allow_empty": True}}
    _run(**arguments, sample="LGG-1", **names)
    adata = h5ad.read(tmp_path / "out.h5ad")
    assert adata.shape == (0, 2)
    assert adata.obs["tumour"].dtype == bool


def test_the_table_of_samples_is_checked(tmp_path, names):
    arguments = _cancerscem(tmp_path)
    with pytest.raises(
        UserError, match="cancerscem: one file per sample; give --sample NAME and --samples TABLE"
    ):
        _run(**arguments | {"samples": None}, sample="LGG-1", **names)
    with pytest.raises(UserError, match=r"samples\.tsv: the sample 'LGG-9' is not listed"):
        is_tumour(arguments["samples"], "LGG-9")
    with pytest.raises(UserError, match="tumour of 'LGG-3' is 'maybe', expected 0 or 1"):
        is_tumour(arguments["samples"], "LGG-3")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["human1_1,AC,beta,1,9,-2,4,0"],
            "the value -2 of cell 'human1_1', gene 'ACTB' is negative; raw counts are",
        ),
        (
            ["human1_1,AC,beta,1,9,nan,4,0"],
            "line 2: 'nan' is not a finite number",
        ),
        (
            ["human1_1,AC,beta,1,9,inf,4,0"],
            "line 2: 'inf' is not a finite number",
        ),
        (
            ["human1_1,AC,beta,1,90,2.5,4,0"],
            "the value 2.5 of cell 'human1_1', gene 'ACTB' is a fraction; whole raw",
        ),
        (
            ["human1_1,AC,beta,1.1,4.25,2,4,0"],
            "the value 1.1 of cell 'human1_1', gene 'GF1' is a fraction; whole raw",
        ),
        (
            [ROWS[0], ROWS[0].replace("9,2", "9,3")],
            "the cell 'human1_1' occurs twice; cell ids must be unique",
        ),
        (["human1_1,AC,,1,9,2,4,0"], "1 of 1 cells have no label, e.g. 'human1_1'"),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_written(tmp_path, names, rows, message):
    out = tmp_path / "prepared" / "out.h5ad"
    with pytest.raises(UserError, match=message) as raised:
        run_prepare("baron", _baron(tmp_path, rows), settings=ANY, out=out, **names)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "GSE84133_RAW.tar"))
    assert not out.parent.exists()


def test_other_genes_and_exchanged_sides_are_told_apart(tmp_path, names):
    with pytest.raises(UserError, match=r"no gene in common with the vocabulary \(names here: 'x', 'y'\)"):
        files = _baron(tmp_path, ["human1_1,AC,beta,1,9"], genes="x,y")
        run_prepare("baron", files, settings=ANY, out=tmp_path / "out.h5ad", **names)
    with pytest.raises(
        UserError, match=r"rows and columns are exchanged: the cells are named like genes \('GATA1'\)"
    ):
        files = _baron(tmp_path, ["GATA1,AC,beta,1,9", "ACTB,AC,beta,1,9"], genes="x,y")
        run_prepare("baron", files, settings=ANY, out=tmp_path / "out.h5ad", **names)


def test_options_and_files_are_checked_before_anything_is_read(tmp_path, names):
    out = tmp_path / "out.h5ad"
    files = _baron(tmp_path, ROWS)
    cases: list[tuple[str, dict[str, Any], Any, str]] = [
        ("barron", files, "{}", "unknown source 'barron'; known are panglaodb, cancerscem, zheng68k, baron"),
        (
            "baron",
            files,
            {"min_gene": 3},
            "options of baron.min_gene: unknown key .*'min_genes'",
        ),
        (
            "baron",
            files,
            {"min_genes": "many"},
            "baron.min_genes: expected an integer, got .many.",
        ),
        ("baron", files, {"filter_genes": "some"}, "options of baron.filter_genes: expected .*'vocabulary'"),
        ("baron", {}, "{}", "baron: the file 'matrix' is missing; give matrix=PATH"),
        (
            "baron",
            files | {"labels": out},
            "{}",
            "baron: unknown file 'labels'; allowed are matrix, gene_list",
        ),
        (
            "baron",
            {"matrix": tmp_path / "no.tar"},
            "{}",
            r"no\.tar: no such file \(the file 'matrix' of baron\)",
        ),
    ]
    for source, given, settings, message in cases:
        with pytest.raises(UserError, match=message):
            run_prepare(source, given, settings=settings, out=out, **names)


@pytest.mark.parametrize("source", SOURCES)
def test_every_reader_has_the_same_face(source):
    reader: Any = importlib.import_module(f"celllm.cells.readers.{source}")
    assert issubclass(reader.Options, CellOptions)
    assert isinstance(reader.FILES, tuple)
    assert isinstance(reader.OPTIONAL_FILES, tuple)
    assert callable(reader.read)


@pytest.fixture
def written(tmp_path, names) -> Path:
    out = tmp_path / "baron.h5ad"
    rows = [f"human1_{i},AC,beta,{i % 7},9,2,4,{i % 5}" for i in range(400)]
    run_prepare("baron", _baron(tmp_path, rows), settings=ANY, out=out, **names)
    return out


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: b"", lambda data: b"<html>"],
)
def test_a_prepared_file_cut_short_is_one_line(written, damage):
    written.write_bytes(damage(written.read_bytes()))
    for reader in (h5ad.read, h5ad.verify):
        with pytest.raises(
            UserError, match=r"baron\.h5ad: not a prepared data set, or cut short; make it with"
        ):
            reader(written)


def test_every_flipped_byte_is_noticed(written):
    data = written.read_bytes()
    places = np.random.default_rng(0).choice(len(data), size=300, replace=False)
    for place in [0, len(data) - 1, *places]:
        written.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(UserError, match=r"damaged or changed|not a prepared data set"):
            h5ad.read(written)


def test_content_changed_by_hand_is_refused(written):
    adata = anndata.read_h5ad(written)
    adata.X.data[0] += 1
    adata.write_h5ad(written)
    with pytest.raises(UserError, match="not a prepared data set, or cut short"):
        h5ad.read(written)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no\.h5ad: no such file"):
        label_counts(tmp_path / "no.h5ad")


def _prepare_real(
    mirror: Path, real_genes: Any, out: Path, source: str, files: dict[str, str], **options: Any
) -> Any:
    paths = {name: mirror / path for name, path in files.items()}
    run_prepare(source, paths, real_genes.genes, real_genes.aliases, options, out)
    return h5ad.read(out, real_genes.vocabulary)


ZHENG = {
    "matrix": "{}/fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz",
    "labels": "{}/68k_pbmc_barcodes_annotation.tsv",
}


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("folder", "options", "shape"),
    [
        ("zheng68k", {}, (683, 738)),
        ("zheng68k", {"filter_genes": "all"}, (693, 738)),
        ("zheng68k", {"min_genes": 0}, (700, 738)),
        ("zheng68k_resampled", {}, (165, 8877)),
    ],
)
def test_real_zheng68k(mirror, real_genes, tmp_path, folder, options, shape):
    files = {name: path.format(folder) for name, path in ZHENG.items()}
    adata = _prepare_real(mirror, real_genes, tmp_path / "out.h5ad", "zheng68k", files, **options)
    assert adata.shape == shape
    if options == {} and folder == "zheng68k":
        assert label_counts(tmp_path / "out.h5ad") == {
            "Dendritic": 239, "CD14+ Monocyte": 127, "CD19+ B": 91, "CD4+/CD25 T Reg": 63,
            "CD8+ Cytotoxic T": 51, "CD8+/CD45RA+ Naive Cytotoxic": 43, "CD56+ NK": 30,
            "CD4+/CD45RO+ Memory": 19, "CD34+": 12, "CD4+/CD45RA+/CD25- Naive T": 8,
        }  # fmt: skip


@pytest.mark.mirror
def test_real_baron(mirror, real_genes, tmp_path):
    files = {"matrix": "baron/GSE84133_RAW.tar"}
    adata = _prepare_real(mirror, real_genes, tmp_path / "out.h5ad", "baron", files)
    assert adata.shape == (238, 12392)
    assert sum(label_counts(tmp_path / "out.h5ad").values()) == 238
    stored = adata.uns["celllm"]
    assert (stored["n_cells_in"], stored["n_merged_symbols"], stored["n_unmapped"]) == (240, 3, 78)


@pytest.mark.mirror
@pytest.mark.parametrize(("holiday", "counts"), [
    ("sensitive", {"sensitive": 188, "resistant": 112}),
    ("resistant", {"sensitive": 154, "resistant": 146}),
    ("drop", {"sensitive": 154, "resistant": 112}),
])  # fmt: skip
def test_real_gse117872(mirror, real_genes, tmp_path, holiday, counts):
    stem = "gse117872/GSE117872_good_Data_"
    files = {"matrix": f"{stem}TPM.txt.gz", "labels": f"{stem}cellinfo.txt.gz"}
    out = tmp_path / "out.h5ad"
    adata = _prepare_real(mirror, real_genes, out, "gse117872", files, holiday=holiday)
    assert (adata.n_vars, adata.uns["celllm"]["values"]) == (10090, "tpm")
    assert label_counts(out) == counts


@pytest.mark.mirror
@pytest.mark.parametrize("values", ["tpm", "log2_tpm"])
def test_real_ccle(mirror, real_genes, tmp_path, values):
    files = {"expression": "ccle/CCLE_expression.csv", "lines": "ccle/sample_info.csv"}
    adata = _prepare_real(mirror, real_genes, tmp_path / "out.h5ad", "ccle", files, values=values)
    assert (adata.shape, adata.uns["celllm"]["values"]) == ((460, 2505), values)
    assert adata.X.max() == pytest.approx(32767 if values == "tpm" else 15, rel=1e-5)


@pytest.mark.mirror
@pytest.mark.slow
def test_real_pretraining_cells(mirror, real_genes, tmp_path):
    """63 cells by the cluster files, 81 by the 200-gene rule; 142 tumour and 42 normal ones."""
    names = {"genes": real_genes.genes, "aliases": real_genes.aliases}
    matrices = sorted((mirror / "panglaodb").glob("*.RData"))[1:]
    samples = tmp_path / "samples.tsv"
    rows = [f"{m.name.split('.')[0]}\t0" for m in matrices] + [
        f"LGG-001-0{i}-1A\t{int(i < 5)}" for i in range(1, 6)
    ]
    samples.write_text("\n".join(["sample\ttumour", *rows]) + "\n")
    n_cells = {"clusters": 0, "min_genes": 0, True: 0, False: 0}
    for matrix in matrices:
        sample = matrix.name.split(".")[0]
        clusters = mirror / "panglaodb" / "data" / "sample_clusters" / f"{sample}.seurat_clusters.txt"
        for cells in ("clusters", "min_genes"):
            run_prepare(
                "panglaodb", {"matrix": matrix, "clusters": clusters},
                settings={"cells": cells, "allow_empty": True},
                out=tmp_path / "out.h5ad", sample=sample, samples=samples, **names,
            )  # fmt: skip
            adata = h5ad.read(tmp_path / "out.h5ad", real_genes.vocabulary)
            assert not adata.obs["tumour"].any()
            n_cells[cells] += adata.n_obs
    for number in range(1, 6):
        sample = f"LGG-001-0{number}-1A"
        files = {"matrix": mirror / "cancerscem" / f"{sample}.counts.matrix.tsv.gz"}
        run_prepare(
            "cancerscem",
            files,
            settings=ANY,
            out=tmp_path / "out.h5ad",
            sample=sample,
            samples=samples,
            **names,
        )
        for tumour in h5ad.read(tmp_path / "out.h5ad").obs["tumour"]:
            n_cells[bool(tumour)] += 1
    assert n_cells == {"clusters": 63, "min_genes": 81, True: 142, False: 42}
