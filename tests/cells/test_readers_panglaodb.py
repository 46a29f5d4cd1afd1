from pathlib import Path

import numpy as np
import pytest
import rdata
from scipy.sparse import csc_matrix

from celllm.cells.readers import panglaodb
from celllm.cells.readers.panglaodb import Options, human_samples, read, sample_table
from celllm.errors import UserError
from celllm.toy.rworkspace import SparseMatrix, workspace

GENES = [
    "GATA1_ENSG00000102145.13", "Y_RNA_ENSG00000199306.1", "CD99_ENSG00000002586.18_PAR_Y",
    "HLA-A-ENSG00000206503.12", "CD4_ENSG00000010610.9",
]  # fmt: skip
BARCODES = ["AAAC", "CCCG", "GGGT", "TTTA"]
VALUES = np.array([[1, 0, 0, 3], [0.5, 0, 0, 0], [0, 2, 0, 0], [0, 0.25, 0, 40], [7, 0, 1, 0]])
METADATA = """"SRA1","SRS1","Liver","10x chromium","Homo sapiens","HiSeq","100","10","2","1","1","0"
"SRA1","SRS2","Liver","10x chromium","Homo sapiens","HiSeq","100","10","2","0","1","0"
"SRA2","notused","Lung","C1","Homo sapiens","HiSeq","100","10","2",\\N,\\N,\\N
"SRA3","SRS4","Brain","10x chromium","Mus musculus","HiSeq","100","10","2","0","1","0"
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {
        "matrix": tmp_path / "SRA1_SRS1.sparse.RData",
        "clusters": tmp_path / "SRA1_SRS1.seurat_clusters.txt",
    }
    paths["matrix"].write_bytes(workspace(SparseMatrix(csc_matrix(VALUES), GENES, BARCODES)))
    paths["clusters"].write_text("CCCG 1\nTTTA 0\nACGT 5\n")
    return paths


def test_the_barcodes_of_the_clusters_are_the_cells(files):
    raw = read(files, Options())
    assert raw.genes == ["GATA1", "Y_RNA", "CD99", "HLA-A", "CD4"]
    assert raw.obs.index.tolist() == ["CCCG", "TTTA"]
    assert raw.obs["cluster"].tolist() == ["1", "0"]
    np.testing.assert_array_equal(raw.matrix.toarray(), VALUES.T[[1, 3]].astype(np.float32))
    assert raw.matrix.format == "csr"
    assert raw.matrix.dtype == np.float32
    assert raw.fractions
    assert raw.report == {"n_barcodes": 4}


def test_without_clusters_every_barcode_is_handed_on(files):
    options = Options(cells="min_genes", min_genes=2)
    raw = read({"matrix": files["matrix"]}, options)
    assert raw.obs.index.tolist() == BARCODES
    assert options.fewest_genes == 2
    assert Options().fewest_genes == 0


def test_barcodes_without_a_column_are_a_warning_and_what_is_none_is_refused(files, caplog):
    read(files, Options())
    assert any("1 of 3 barcodes are not in the matrix, e.g. ACGT" in message for message in caplog.messages)
    for wrong in ("AcGT", "AQGT", "AC\\T"):
        files["clusters"].write_text(f"CCCG 1\nTTTA 0\n{wrong} 5\n")
        with pytest.raises(UserError, match="is not a barcode, a sequence of A, C, G, T and N"):
            read(files, Options())


def test_a_sample_may_have_no_cell(files):
    files["clusters"].write_text("ACGT 5\n")
    raw = read(files, Options())
    raw.check("sample")
    assert raw.matrix.shape == (0, 5)


def test_the_object_may_have_another_name_when_it_is_the_only_one(files):
    matrix = SparseMatrix(csc_matrix(VALUES), GENES, BARCODES)
    files["matrix"].write_bytes(workspace(matrix, name="sm2"))
    assert len(read(files, Options()).obs) == 2


def test_mouse_genes_are_refused(files):
    mouse = ["Actb_ENSMUSG00000029580.14", *GENES[1:]]
    files["matrix"].write_bytes(workspace(SparseMatrix(csc_matrix(VALUES), mouse, BARCODES)))
    with pytest.raises(
        UserError, match=r"'Actb_ENSMUSG00000029580.14' is not a human gene \(ENSMUSG\); leave this sample"
    ):
        read(files, Options())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: b"<html>403 Forbidden</html>", r"a web page \(HTML\) instead of the data"),
        (lambda data: data[: len(data) // 2], "not a complete R workspace"),
        (lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:], "not a complete R workspace"),
        (lambda data: b"x" * 100, "not a complete R workspace"),
        (lambda data: data + data, "not a complete R workspace"),
    ],
)
def test_a_damaged_workspace_is_one_line(files, damage, message):
    files["matrix"].write_bytes(damage(files["matrix"].read_bytes()))
    with pytest.raises(UserError, match=message) as raised:
        read(files, Options())
    assert str(raised.value).startswith(str(files["matrix"]))
    assert "\n" not in str(raised.value)


def test_a_workspace_without_a_sparse_matrix_is_refused(files):
    rdata.write_rda(files["matrix"], {"sm": np.arange(3.0)})
    with pytest.raises(UserError, match=r"holds an R object of the class ndarray, expected a sparse matrix"):
        read(files, Options())


def test_a_matrix_whose_indices_leave_it_is_refused(files):
    broken = csc_matrix(VALUES)
    broken.indices[0] = 77
    files["matrix"].write_bytes(workspace(SparseMatrix(broken, GENES, BARCODES)))
    with pytest.raises(UserError, match="the matrix is damaged"):
        read(files, Options())


def test_names_that_do_not_fit_the_matrix_are_refused(files):
    files["matrix"].write_bytes(workspace(SparseMatrix(csc_matrix(VALUES), GENES[:3], BARCODES)))
    with pytest.raises(UserError, match=r"3 genes and 4 barcodes name a matrix of \(5, 4\)"):
        read(files, Options())


def test_the_clusters_file_is_needed_and_checked(files):
    with pytest.raises(
        UserError, match="the file 'clusters' is missing; give clusters=PATH or set cells: min_genes"
    ):
        read({"matrix": files["matrix"]}, Options())
    files["clusters"].write_text("CCCG 1\nCCCG 2\n")
    with pytest.raises(UserError, match="the barcode 'CCCG' occurs twice"):
        read(files, Options())
    files["clusters"].write_text("CCCG 1\nTTTA\n")
    with pytest.raises(UserError, match="line 2 has 1 fields, expected 2"):
        read(files, Options())


def test_the_human_samples_and_their_flags(tmp_path):
    metadata, sizes = tmp_path / "metadata.txt", tmp_path / "sizes.txt"
    metadata.write_text(METADATA)
    sizes.write_text('"SRA1","SRS1","0","50"\n"SRA1","SRS1","1","25"\n"SRA2","notused","0","7"\n')
    table = human_samples(metadata, sizes)
    assert table.index.tolist() == ["SRA1_SRS1", "SRA1_SRS2", "SRA2"]
    assert table["flag"].tolist() == ["1", "0", ""]
    assert table["n_cells"].tolist() == [75, 0, 7]
    files = {"metadata": metadata}
    assert sample_table(files, Options())["tumour"].tolist() == [False, False, False]
    assert sample_table(files, Options(tumour_samples="as_tumour"))["tumour"].tolist() == [True, False, False]
    assert sample_table(files, Options(tumour_samples="drop")).index.tolist() == ["SRA1_SRS2", "SRA2"]


def _mirrored(mirror: Path, sample: str) -> dict[str, Path]:
    folder = mirror / "panglaodb"
    clusters = folder / "data" / "sample_clusters" / f"{sample}.seurat_clusters.txt"
    return {"matrix": folder / f"{sample}.sparse.RData", "clusters": clusters}


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("sample", "n_genes", "n_clustered", "n_200"),
    [
        ("SRA605557_SRS2493626", 9793, 40, 47),
        ("SRA617020_SRS2566664", 7947, 11, 11),
        ("SRA617020_SRS2566665", 5522, 7, 7),
        ("SRA705190_SRS4139632", 7664, 3, 10),
        ("SRA782908_SRS3815594", 2759, 2, 3),
        ("SRA782908_SRS3815596", 1149, 0, 1),
        ("SRA782908_SRS3815603", 852, 0, 1),
        ("SRA782908_SRS3815605", 1024, 0, 1),
    ],
)
def test_real_samples(mirror, sample, n_genes, n_clustered, n_200):
    files = _mirrored(mirror, sample)
    clustered = read(files, Options())
    assert clustered.matrix.shape == (n_clustered, n_genes)
    everything = read(files, Options(cells="min_genes"))
    everything.check(sample)
    assert len(everything.obs) == 50
    assert int((np.diff(everything.matrix.indptr) >= 200).sum()) == n_200
    whole = everything.matrix.data == np.floor(everything.matrix.data)
    assert 0.3 < whole.mean() < 0.9


@pytest.mark.mirror
def test_a_real_workspace_equals_what_the_rdata_package_reads(mirror):
    path = _mirrored(mirror, "SRA617020_SRS2566664")["matrix"]
    with pytest.warns(UserWarning, match="Missing constructor"):
        found = rdata.read_rda(path)["sm"]
    reference = csc_matrix((found.x, found.i, found.p), shape=tuple(found.Dim))
    matrix, genes, barcodes = panglaodb.read_workspace(path)
    assert (matrix != reference.T.tocsr().astype(np.float32)).nnz == 0
    assert (genes, barcodes) == (found.Dimnames[0].tolist(), found.Dimnames[1].tolist())


@pytest.mark.mirror
def test_the_real_mouse_sample_is_refused(mirror):
    with pytest.raises(UserError, match="is not a human gene"):
        read(_mirrored(mirror, "SRA578634_SRS2302659"), Options())


@pytest.mark.mirror
def test_the_real_table_of_samples(mirror):
    data = mirror / "panglaodb" / "data"
    files = {"metadata": data / "metadata.txt", "cluster_sizes": data / "clusters_to_number_of_cells.txt"}
    table = sample_table(files, Options(tumour_samples="as_tumour"))
    assert (len(table), table["tissue"].nunique(), table["n_cells"].sum()) == (305, 74, 1_070_580)
    assert (table["tumour"].sum(), table["n_cells"][table["tumour"]].sum()) == (33, 98_021)
    unknown = table[table["flag"] == ""]
    assert (len(unknown), unknown["n_cells"].sum()) == (33, 92_287)
    kept = sample_table(files, Options(tumour_samples="drop"))
    assert (len(kept), kept["tissue"].nunique(), kept["n_cells"].sum()) == (272, 64, 972_559)
