import gzip
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from celllm.cells.readers.cancerscem import Options, read, sample_table
from celllm.errors import UserError

CELLS = ["ACGTACGTACGTACGT-1", "CCCCACGTACGTACGT-1", "GGGGACGTACGTACGT-1"]
GENES = ["GATA1", "ACTB", "HLA-A", "CD4"]
COUNTS = np.array([[1, 0, 0, 3], [0, 5, 0, 0], [0, 2, 30, 0]])  # cells x genes
GENES_IN_ROWS = ["\t".join([gene, *map(str, COUNTS[:, i])]) for i, gene in enumerate(GENES)]
CELLS_IN_ROWS = ["\t".join([cell, *map(str, COUNTS[i])]) for i, cell in enumerate(CELLS)]
LAYOUTS = {
    "empty first field": ["\t" + "\t".join(CELLS), *GENES_IN_ROWS],
    "short header": ["\t".join(CELLS), *GENES_IN_ROWS],
    "quoted by R": [
        "\t".join(f'"{c}"' for c in CELLS),
        *(f'"{r.replace(chr(9), chr(34) + chr(9), 1)}' for r in GENES_IN_ROWS),
    ],
    "cells in rows": ["\t" + "\t".join(GENES), *CELLS_IN_ROWS],
    "cells in rows, short header": ["\t".join(GENES), *CELLS_IN_ROWS],
    "line ends of DOS": [line + "\r" for line in ["\t" + "\t".join(CELLS), *GENES_IN_ROWS]],
}


def _write(folder: Path, lines: list[str], packed: bool = False) -> dict[str, Path]:
    path = folder / ("LGG-001.counts.matrix.tsv" + (".gz" if packed else ""))
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    return {"matrix": path}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_cells(tmp_path, layout, packed):
    raw = read(_write(tmp_path, LAYOUTS[layout], packed), Options())
    assert raw.obs.index.tolist() == CELLS
    assert raw.genes == GENES
    np.testing.assert_array_equal(raw.matrix.toarray(), COUNTS)
    assert not raw.fractions


def test_cell_types_are_joined_across_points_and_dashes(tmp_path):
    files = _write(tmp_path, LAYOUTS["short header"])
    files["cell_types"] = tmp_path / "LGG-001.cell.type.txt"
    files["cell_types"].write_text(
        f"barcode\tcell_type\n{CELLS[2].replace('-', '.')}\tT cell\n{CELLS[0].replace('-', '.')}\tMalignant\n"
    )
    assert read(files, Options()).obs["cell_type"].tolist() == ["Malignant", "", "T cell"]
    files["cell_types"].write_text("barcode\tcell_type\nTTTTTTTTTTTTTTTT.1\tT cell\n")
    with pytest.raises(
        UserError, match="none of the 3 barcodes of the matrix occurs in it; is it another sample's"
    ):
        read(files, Options())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["\ta\tb", "GATA1\t1\t2"], "cannot tell cells from genes"),
        (["\t" + "\t".join(CELLS), CELLS[0] + "\t1\t2\t3"], "cannot tell cells from genes"),
        (["\t" + "\t".join(CELLS), "GATA1\t1\t2"], "line 2 has 3 fields, expected 4"),
        (["\t" + "\t".join(CELLS), "GATA1\t1\t2\t3\t4\t5"], "line 2 has 6 fields, expected 4"),
        (["\t" + "\t".join(CELLS), "GATA1\t1\tmany\t3"], "line 2: 'many' is not a number"),
        (["\t" + "\t".join(CELLS), "GATA1\t1\tNA\t3"], "line 2: 'NA' is not a number"),
        (["\t" + "\t".join(CELLS), "GATA1\t1\t\t3"], "line 2: a field is empty where a number is expected"),
        (["\t" + "\t".join(CELLS)], "a header and no rows"),
        (["<html><body>404</body></html>"], r"a web page \(HTML\) instead of the data"),
        ([""], "the file is empty"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path, lines, message):
    with pytest.raises(UserError, match=message) as raised:
        read(_write(tmp_path, lines), Options())
    assert "\n" not in str(raised.value)


def test_a_truncated_table_is_refused(tmp_path):
    files = _write(tmp_path, LAYOUTS["short header"], packed=True)
    files["matrix"].write_bytes(files["matrix"].read_bytes()[:-12])
    with pytest.raises(UserError, match="truncated or damaged"):
        read(files, Options())


def _metadata(folder: Path, rows: list[tuple[str, ...]]) -> dict[str, Path]:
    book = openpyxl.Workbook()
    book.active.append(["Project ID", "Sample ID", "Sample Type", "Cancer type", "Cell count"])
    for row in rows:
        book.active.append(row)
    book.save(folder / "CancerSCEM.metadata.xlsx")
    return {"metadata": folder / "CancerSCEM.metadata.xlsx"}


SAMPLES = [
    ("MCC-001", "MCC-001-01-1A", "Tumour", "Merkel", 10),
    ("MCC-001", "MCC-001-02-1A", "Normal", "Merkel", 20),
    ("AML-028", "AML-028-01-1B", "PBMC", "AML", 30),
    ("AML-029", "AML-029-01-1B", "Tumour", "AML", 40),
]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, [True, False, False]),
        ({"projects": None}, [True, False, False, True]),
        ({"blood_samples": "tumour"}, [True, False, True]),
        ({"blood_samples": "drop"}, [True, False]),
        ({"label": "all_tumour"}, [True, True, True]),
        ({"projects": 1}, [True, False]),
    ],
)
def test_sample_type_decides_the_tumour_label(tmp_path, options, labels):
    table = sample_table(_metadata(tmp_path, SAMPLES), Options(**options))
    assert table["tumour"].tolist() == labels
    assert table["n_cells"].astype(int).tolist() == [10, 20, 30, 40][: len(labels)]


def test_an_unknown_sample_type_is_refused(tmp_path):
    rows = [("MCC-001", "MCC-001-01-1A", "Organoid", "Merkel", 10)]
    with pytest.raises(UserError, match="unknown sample type 'Organoid'; known are Normal, PBMC, Tumour"):
        sample_table(_metadata(tmp_path, rows), Options())


def test_a_workbook_that_is_none_is_refused(tmp_path):
    path = tmp_path / "CancerSCEM.metadata.xlsx"
    path.write_text("<html>moved</html>")
    with pytest.raises(UserError, match=r"a web page \(HTML\)"):
        sample_table({"metadata": path}, Options())


def test_a_damaged_workbook_is_one_line(tmp_path):
    rows = [("MCC-001", f"MCC-001-{i:03}-1A", "Tumour", f"kind {i * 7919}", i) for i in range(500)]
    files = _metadata(tmp_path, rows)
    content = files["metadata"].read_bytes()
    with zipfile.ZipFile(files["metadata"]) as archive:
        sheet = archive.getinfo("xl/worksheets/sheet1.xml")
    for place in range(sheet.header_offset + 100, sheet.header_offset + sheet.compress_size, 997):
        files["metadata"].write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(UserError, match="not an Excel workbook, or a damaged one") as raised:
            sample_table(files, Options())
        assert "\n" not in str(raised.value)


def test_a_workbook_that_unpacks_to_a_giant_is_refused(tmp_path, monkeypatch):
    files = _metadata(tmp_path, [("MCC-001", "MCC-001-01-1A", "Tumour", "Merkel", 10)])
    monkeypatch.setattr("celllm.sources.delimited.MAX_WORKBOOK", 1000)
    with pytest.raises(UserError, match="unpacks to more than 1000 bytes; refused"):
        sample_table(files, Options())


@pytest.mark.mirror
@pytest.mark.parametrize(("number", "n_cells", "types"), [
    (1, 33, {"Malignant cells": 33}), (2, 34, {"Malignant cells": 34}), (3, 40, {"Malignant cells": 40}),
    (4, 35, {"Malignant cells": 35}), (5, 42, {"Oligodendrocytes": 23, "Microglia/Macrophage": 19}),
])  # fmt: skip
def test_real_samples(mirror, number, n_cells, types):
    folder, sample = mirror / "cancerscem", f"LGG-001-0{number}-1A"
    files = {
        "matrix": folder / f"{sample}.counts.matrix.tsv.gz",
        "cell_types": folder / "cell_annotation" / f"{sample}.cell.type.txt",
    }
    raw = read(files, Options())
    raw.check(sample)
    assert raw.matrix.shape == (n_cells, 10338)
    assert raw.obs["cell_type"].value_counts().to_dict() == types
    assert sample_table({"metadata": folder / "CancerSCEM.metadata.xlsx"}, Options())["tumour"][sample] == (
        number < 5
    )
