from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from openpyxl import Workbook

from celllm.errors import UserError
from celllm.sources.catalogue import Catalogue
from celllm.sources.samples import COLUMNS, list_samples, run_samples
from tests.places import ROOT

CATALOGUE = ROOT / "config/data_sets.yaml"

# accession, sample, tissue, species, tumour flag
PANGLAO = [
    ("SRA1", "SRS1", "Lung", "Homo sapiens", "0"),
    ("SRA1", "SRS2", "Melanoma", "Homo sapiens", "1"),
    ("SRA2", "notused", "Retina", "Homo sapiens", None),
    ("SRA3", "SRS3", "Lung", "Mus musculus", "0"),
]
SIZES = [("SRA1", "SRS1", 0, 30), ("SRA1", "SRS1", 1, 12), ("SRA1", "SRS2", 0, 5), ("SRA2", "notused", 0, 7)]


@pytest.fixture
def panglao(tmp_path: Path) -> dict[str, Path]:
    files = {"metadata": tmp_path / "metadata.txt", "cluster_sizes": tmp_path / "sizes.txt"}
    rows = [
        ",".join(
            f'"{v}"' if v is not None else r"\N"
            for v in (a, s, t, "10x chromium", o, "X", 9, 9, 2, f, None, None)
        )
        for a, s, t, o, f in PANGLAO
    ]
    files["metadata"].write_text("\n".join(rows) + "\n")
    files["cluster_sizes"].write_text("".join(f'"{a}","{s}","{c}","{n}"\n' for a, s, c, n in SIZES))
    return files


CANCER = [
    ("MCC-001", "MCC-001-01-1A", "Tumour", 10),
    ("MCC-001", "MCC-001-02-2A", "Normal", 20),
    ("AML-028", "AML-028-01-1E", "PBMC", 30),
    ("GBM-029", "GBM-029-01-1A", "Tumour", 40),
]


@pytest.fixture
def cancer(tmp_path: Path) -> dict[str, Path]:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(["Project ID", "Sample ID", "Sample Type", "Cancer type", "Cell count"])
    for project, sample, kind, n in CANCER:
        sheet.append([project, sample, kind, "some", n])
    book.save(tmp_path / "meta.xlsx")
    return {"metadata": tmp_path / "meta.xlsx"}


@pytest.fixture
def filled(tmp_path: Path) -> Catalogue:
    """The catalogue with a table of CancerSCEM samples that somebody has filled in."""
    rows = "".join(f"{sample},https://example.org/{sample}.tsv,\n" for _, sample, _, _ in CANCER)
    (tmp_path / "cancerscem_samples.csv").write_text("sample,url,sha256\n" + rows)
    (tmp_path / "data_sets.yaml").write_text(yaml.safe_dump(yaml.safe_load(CATALOGUE.read_text())))
    return Catalogue.read(tmp_path / "data_sets.yaml")


def _tumours(table: pd.DataFrame) -> dict[str, int]:
    assert tuple(table.columns) == COLUMNS
    return dict(zip(table["sample"], table["tumour"], strict=True))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("keep", {"SRA1_SRS1": 0, "SRA1_SRS2": 0, "SRA2": 0}),
        ("drop", {"SRA1_SRS1": 0, "SRA2": 0}),
        ("as_tumour", {"SRA1_SRS1": 0, "SRA1_SRS2": 1, "SRA2": 0}),
    ],
)
def test_panglaodb_takes_the_human_samples(
    panglao: dict[str, Path], rule: str, expected: dict[str, int]
) -> None:
    table = list_samples(Catalogue.read(CATALOGUE), "panglaodb", panglao, {"tumour_samples": rule})
    assert _tumours(table) == expected
    row = table.set_index("sample").loc["SRA2"]
    assert (row["sra"], row["srs"], row["tissue"], int(row["n_cells_expected"])) == (
        "SRA2",
        "notused",
        "Retina",
        7,
    )
    assert int(table.set_index("sample").loc["SRA1_SRS1", "n_cells_expected"]) == 42


def test_a_list_of_samples_keeps_the_order_of_the_source(panglao: dict[str, Path]) -> None:
    catalogue = Catalogue.read(CATALOGUE)
    table = list_samples(catalogue, "panglaodb", panglao, {"samples": ["SRA2", "SRA1_SRS1"]})
    assert list(table["sample"]) == ["SRA1_SRS1", "SRA2"]
    with pytest.raises(
        UserError, match=r"options of panglaodb\.samples: 'SRA3_SRS3' is none of its 3 samples"
    ):
        list_samples(catalogue, "panglaodb", panglao, {"samples": ["SRA1_SRS1", "SRA3_SRS3"]})


def _mirror_with(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_mirrored_samples_are_those_whose_matrix_is_there(panglao: dict[str, Path], tmp_path: Path) -> None:
    catalogue, options = Catalogue.read(CATALOGUE), {"samples": "mirrored"}
    mirror = _mirror_with(tmp_path / "m", *(f"panglaodb/{n}.sparse.RData" for n in ("SRA2", "SRA3_SRS3")))
    assert _tumours(list_samples(catalogue, "panglaodb", panglao, options, mirror)) == {"SRA2": 0}
    with pytest.raises(UserError, match=r"'mirrored' needs a mirror"):
        list_samples(catalogue, "panglaodb", panglao, options)
    with pytest.raises(UserError, match=r"holds no file panglaodb/<sample>\.sparse\.RData"):
        list_samples(catalogue, "panglaodb", panglao, options, _mirror_with(tmp_path / "none", "x"))
    only_mouse = _mirror_with(tmp_path / "mouse", "panglaodb/SRA3_SRS3.sparse.RData")
    with pytest.raises(UserError, match="no sample is left by its options"):
        list_samples(catalogue, "panglaodb", panglao, options, only_mouse)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"MCC-001-01-1A": 1, "MCC-001-02-2A": 0, "AML-028-01-1E": 0}),
        ({"blood_samples": "tumour"}, {"MCC-001-01-1A": 1, "MCC-001-02-2A": 0, "AML-028-01-1E": 1}),
        ({"blood_samples": "drop"}, {"MCC-001-01-1A": 1, "MCC-001-02-2A": 0}),
        ({"label": "all_tumour"}, {"MCC-001-01-1A": 1, "MCC-001-02-2A": 1, "AML-028-01-1E": 1}),
        ({"projects": 1}, {"MCC-001-01-1A": 1, "MCC-001-02-2A": 0}),
        (
            {"projects": None},
            {"MCC-001-01-1A": 1, "MCC-001-02-2A": 0, "AML-028-01-1E": 0, "GBM-029-01-1A": 1},
        ),
    ],
)
def test_cancerscem_goes_by_sample_type_and_project(
    cancer: dict[str, Path], filled: Catalogue, options: dict[str, Any], expected: dict[str, int]
) -> None:
    table = list_samples(filled, "cancerscem", cancer, options)
    assert _tumours(table) == expected
    assert int(table["n_cells_expected"].map(int).iloc[0]) == 10 and table["kind"].iloc[0] == "Tumour"


def test_cancerscem_needs_addresses_or_a_mirror(cancer: dict[str, Path], tmp_path: Path) -> None:
    catalogue = Catalogue.read(CATALOGUE)
    with pytest.raises(UserError, match=r"cancerscem_samples\.csv: lists no sample of cancerscem") as error:
        list_samples(catalogue, "cancerscem", cancer)
    assert "\n" not in str(error.value)
    mirror = _mirror_with(tmp_path / "m", "cancerscem/MCC-001-02-2A.counts.matrix.tsv.gz")
    for choice in ("all", "mirrored"):
        table = list_samples(catalogue, "cancerscem", cancer, {"samples": choice}, mirror)
        assert _tumours(table) == {"MCC-001-02-2A": 0}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("baron", {}, "baron: has no samples"),
        ("pangloadb", {}, "unknown data set 'pangloadb'"),
        ("panglaodb", {"samples": "some"}, "expected all, mirrored, a number or names, got 'some'"),
        ("panglaodb", {"tumor_samples": "keep"}, "unknown key 'tumor_samples'"),
        ("panglaodb", {"tumour_samples": "maybe"}, r"panglaodb\.tumour_samples: expected"),
    ],
)
def test_slips_are_one_line(
    panglao: dict[str, Path], source: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        list_samples(Catalogue.read(CATALOGUE), source, panglao, options)
    assert "\n" not in str(error.value)


def test_the_table_is_written_as_tsv(panglao: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "samples.tsv"
    run_samples("panglaodb", panglao, out, '{"tumour_samples": "as_tumour"}')
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert tuple(lines[0]) == COLUMNS
    assert lines[2] == ["SRA1_SRS2", "1", "5", "SRA1", "SRS2", "Melanoma", "10x chromium", "1"]


@pytest.mark.mirror
def test_the_real_tables_give_the_published_counts(mirror: Path) -> None:
    catalogue = Catalogue.read(CATALOGUE)
    files = {file.name: mirror / file.path for file in catalogue.files("panglaodb")}

    def total(**options: Any) -> tuple[int, int, int]:
        table = list_samples(catalogue, "panglaodb", files, options, mirror)
        return len(table), int(table["tumour"].sum()), int(table["n_cells_expected"].map(int).sum())

    assert total() == (305, 0, 1_070_580)
    assert total(tumour_samples="drop") == (272, 0, 972_559)
    assert total(tumour_samples="as_tumour") == (305, 33, 1_070_580)
    assert total(samples="mirrored")[0] == 8


@pytest.mark.mirror
def test_cancerscem_of_the_mirror(mirror: Path) -> None:
    catalogue = Catalogue.read(CATALOGUE)
    files = {file.name: mirror / file.path for file in catalogue.files("cancerscem")}
    table = list_samples(catalogue, "cancerscem", files, {}, mirror)
    cells = table["n_cells_expected"].map(int)
    assert (int(cells[table["tumour"] == 1].sum()), int(cells[table["tumour"] == 0].sum())) == (142, 42)


def test_a_sample_s_name_that_is_a_command_or_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    rows = yaml.safe_load((CATALOGUE.parents[1] / "examples/own_data/data_sets.yaml").read_text())
    (tmp_path / "data_sets.yaml").write_text(yaml.safe_dump(rows))
    for name in ("a;touch x", "$(touch x)", "`touch x`", "../up", "a b", "-rf", "a/b"):
        (tmp_path / "samples.tsv").write_text(f"sample\ttumour\n{name}\t0\n")
        out = tmp_path / "out.tsv"
        arguments = ("my_tumours", {"samples": tmp_path / "samples.tsv"}, out)
        with pytest.raises(UserError, match="is not a sample name; expected the form"):
            run_samples(*arguments, catalogue=tmp_path / "data_sets.yaml")
        assert not out.exists()
