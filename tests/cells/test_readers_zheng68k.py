import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from celllm.cells.readers.zheng68k import Options, read
from celllm.errors import UserError

FOLDER = "filtered_matrices_mex/hg19"
PARTS = {
    "matrix.mtx": "%%MatrixMarket matrix coordinate integer general\n%\n3 2 4\n3 1 7\n1 1 1\n2 2 40\n1 2 5\n",
    "genes.tsv": "ENSG1\tGATA1\nENSG2\tACTB\nENSG3\tGATA1\n",
    "barcodes.tsv": "AAAC-1\nCCCG-8\n",
}
LABELS = "TSNE.1\tTSNE.2\tbarcodes\tcelltype\n0.5\t1.5\tCCCG-8\tCD34+\n0.5\t1.5\tAAAC-1\tCD56+ NK\n"


def _write(folder: Path, parts: Mapping[str, str], labels: str = LABELS) -> dict[str, Path]:
    paths = {"matrix": folder / "fresh_68k.tar.gz", "labels": folder / "68k_pbmc_barcodes_annotation.tsv"}
    with tarfile.open(paths["matrix"], "w:gz") as archive:
        for name, text in parts.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    paths["labels"].write_text(labels)
    return paths


def test_labels_are_joined_by_barcode(tmp_path):
    raw = read(_write(tmp_path, PARTS), Options())
    assert raw.obs.index.tolist() == ["AAAC-1", "CCCG-8"]
    assert raw.obs["label"].tolist() == ["CD56+ NK", "CD34+"]
    assert set(raw.obs["sample"]) == {"fresh_68k_pbmc_donor_a"}
    assert raw.genes == ["GATA1", "ACTB", "GATA1"]
    np.testing.assert_array_equal(raw.matrix.toarray(), [[1, 0, 7], [5, 40, 0]])
    assert raw.matrix.dtype == np.float32
    assert Options().min_genes == 200


@pytest.mark.parametrize(
    "order", [("barcodes.tsv", "matrix.mtx", "genes.tsv"), ("genes.tsv", "barcodes.tsv", "matrix.mtx")]
)
def test_the_order_of_the_members_does_not_matter(tmp_path, order):
    raw = read(_write(tmp_path, {name: PARTS[name] for name in order}), Options())
    assert raw.matrix.sum() == 53


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix.mtx": PARTS["matrix.mtx"][:-4]}, "matrix.mtx: not a complete Matrix Market matrix"),
        (
            {"matrix.mtx": PARTS["matrix.mtx"].replace("3 1 7", "1 1 7")},
            r"matrix.mtx: a place \(gene, cell\) stands there twice",
        ),
        ({"matrix.mtx": PARTS["matrix.mtx"].replace("3 1 7", "0 1 7")}, "not a complete Matrix Market"),
        ({"matrix.mtx": PARTS["matrix.mtx"].replace("2 4\n", "2 999999999999\n")}, "not a complete Matrix"),
        ({"matrix.mtx": ""}, "matrix.mtx: not a complete Matrix Market matrix"),
        ({"matrix.mtx": "<html></html>"}, "matrix.mtx: not a complete Matrix Market matrix"),
        (
            {"matrix.mtx": PARTS["matrix.mtx"].replace("3 1 7", "4 1 7")},
            "matrix.mtx: not a complete Matrix Market",
        ),
        (
            {"genes.tsv": "ENSG1\tGATA1\n"},
            "matrix.mtx is 3 x 2, genes .features. and barcodes name 1 genes x 2 cells",
        ),
        (
            {"genes.tsv": "ENSG1\nENSG2\nENSG3\n"},
            "genes.tsv: line 1 has no second column with the gene symbol",
        ),
    ],
)
def test_a_damaged_member_is_one_line(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as raised:
        read(_write(tmp_path, PARTS | change), Options())
    assert "\n" not in str(raised.value)


def test_a_missing_member_is_named(tmp_path):
    parts = {name: text for name, text in PARTS.items() if name != "barcodes.tsv"}
    with pytest.raises(UserError, match=r"the member filtered_matrices_mex/hg19/barcodes\.tsv is missing"):
        read(_write(tmp_path, parts), Options())


def test_a_truncated_archive_is_refused(tmp_path):
    files = _write(tmp_path, PARTS)
    files["matrix"].write_bytes(files["matrix"].read_bytes()[:150])
    with pytest.raises(UserError, match="truncated or damaged"):
        read(files, Options())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS.splitlines()[0] + "\n", "2 of 2 cells have no label, e.g. 'AAAC-1'"),
        (LABELS[: LABELS.index("0.5\t1.5\tAAAC")], "1 of 2 cells have no label, e.g. 'AAAC-1'"),
        (LABELS.replace("CD34+", ""), "1 of 2 cells have no label, e.g. 'CCCG-8'"),
        (
            LABELS.replace("celltype", "cluster"),
            "the column 'celltype' is missing; expected a table with the columns",
        ),
        (LABELS.replace("AAAC-1", "CCCG-8"), "the barcode 'CCCG-8' occurs twice"),
        ("<!DOCTYPE html>", r"a web page \(HTML\) instead of the data"),
    ],
)
def test_bad_labels_are_one_line_that_names_their_file(tmp_path, labels, message):
    files = _write(tmp_path, PARTS, labels)
    with pytest.raises(UserError, match=message) as raised:
        read(files, Options())
    assert str(raised.value).startswith(str(files["labels"]))


def test_labels_may_be_compressed(tmp_path):
    files = _write(tmp_path, PARTS)
    files["labels"].write_bytes(gzip.compress(LABELS.encode()))
    assert read(files, Options()).obs["label"].tolist() == ["CD56+ NK", "CD34+"]


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("folder", "shape", "nnz", "n_classes"),
    [("zheng68k", (700, 765), 174_400, 10), ("zheng68k_resampled", (165, 9621), 96_500, 11)],
)
def test_real_files(mirror, folder, shape, nnz, n_classes):
    files = {
        "matrix": mirror / folder / "fresh_68k_pbmc_donor_a_filtered_gene_bc_matrices.tar.gz",
        "labels": mirror / folder / "68k_pbmc_barcodes_annotation.tsv",
    }
    raw = read(files, Options())
    raw.check(folder)
    assert (raw.matrix.shape, raw.matrix.nnz) == (shape, nnz)
    assert raw.obs["label"].nunique() == n_classes
