"""Files as users have them, from a folder of cases (CELLLM_CASES): all forms of a table give its numbers."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from celllm.cells import h5ad
from celllm.cells.check import run_check
from celllm.cells.genes import run_genes
from celllm.cells.prepare import run_prepare
from celllm.cells.responses import read_responses, run_responses
from celllm.errors import UserError
from celllm.graph.network import run_network
from celllm.graph.settings import NetworkSettings

CASES = Path(os.environ.get("CELLLM_CASES", "/nowhere"))
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="CELLLM_CASES names no folder of cases")
GENES = {"genes": CASES / "00-common/genes.tsv", "aliases": CASES / "00-common/aliases.tsv"}
META = CASES / "30-trailing-blank-line/good_meta.csv"


TEN_X, LABELS = CASES / "40-10x-variants", CASES / "41-zheng-labels"
WORKSPACES, CCLE = CASES / "70-r-workspaces", CASES / "50-ccle-releases"
# What is refused, and in which words; all other files of these folders give the numbers of the plain one.
REFUSED = {
    "genes_with_header.tar.gz": "genes .features. and barcodes name 137 genes",
    "one_column_genes.tar.gz": "line 1 has no second column with the gene symbol",
    "real_logged.tar.gz": r"the values are ln\(x \+ 1\) of values normalised to 10,000 per cell",
    "transposed.tar.gz": "matrix.mtx is 40 x 136",
    "bulk_labels_only.txt": "the column 'barcodes' is missing",
    "without_suffix.tsv": "40 of 40 cells have no label",
    "blank_value.csv": "line 4: a field is empty where a number is expected",
    "profiles_two_lines.csv": "the cell 'ACH-000001' occurs twice",
    "forbidden.RData": r"a web page \(HTML\)",
    "na_value.RData": "gene 'A2M' is not a finite number",
    "no_barcodes.RData": "no names of genes and barcodes",
    "no_names.RData": "no names of genes and barcodes",
    "two_others.RData": "expected one sparse matrix .dgCMatrix. named sm, found counts, meta",
}


def _files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in CASES.glob(pattern))


def _cells(matrix: Path, out: Path) -> np.ndarray:
    run_prepare("gse149383", {"matrix": matrix, "labels": META}, settings={}, out=out, **GENES)
    return h5ad.read(out).X.toarray()


@pytest.mark.parametrize("matrix", _files("1[23]-*/*.csv", "3[0-4]-*/*.csv"), ids=lambda path: path.name)
def test_every_form_of_a_matrix_gives_its_counts_or_one_line(tmp_path: Path, matrix: Path) -> None:
    if "meta" in matrix.name:
        pytest.skip("a table of labels")
    expected = _cells(CASES / "30-trailing-blank-line/good.csv", tmp_path / "good.h5ad")
    if matrix.name in ("decimal_comma.csv", "thousands.csv"):
        with pytest.raises(UserError, match=r"line 2: '.*' has a decimal or thousands comma"):
            _cells(matrix, tmp_path / "x.h5ad")
    else:
        np.testing.assert_array_equal(_cells(matrix, tmp_path / "x.h5ad"), expected)


@pytest.mark.parametrize(
    "response", _files("5[12]-*/*.csv", "51-*/*.xlsx", "51-*/*.XLSX"), ids=lambda path: path.name
)
def test_every_form_of_a_response_table_gives_its_values_or_one_line(tmp_path: Path, response: Path) -> None:
    if response.stem in ("drugs", "lines"):
        pytest.skip("another table")
    others = {name: CASES / f"51-gdsc-releases/{name}.csv" for name in ("lines", "drugs")}
    others["smiles"] = CASES / "51-gdsc-releases/smiles.tsv"
    out = tmp_path / "out.csv"
    run_responses("gdsc2", {"response": CASES / "51-gdsc-releases/good.csv", **others}, {}, out)
    expected = read_responses(out)
    try:
        run_responses("gdsc2", {"response": response, **others}, {}, out)
    except UserError as error:
        assert "\n" not in str(error)
        assert response.name in str(error)
        return
    found = read_responses(out).merge(expected, on=["cell_line", "drug"], suffixes=("", "_expected"))
    if response.stem in ("na_ic50", "blank_ic50"):  # other values, one of them missing
        assert len(found) == len(expected) - 1
    elif "repeated" not in response.name:
        assert found["ln_ic50"].equals(found["ln_ic50_expected"])


@pytest.mark.parametrize(
    "file",
    _files("0*/*.h5ad*", "0*/*.zarr", "1*/*.h5ad", "2*/*.h5*"),
    ids=lambda path: f"{path.parent.name[:2]}-{path.name}",
)
def test_cells_are_described_or_refused_in_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = ("01-log2", "14-negative", "07-no-counts", "19-repeated", "21-genes", "24-nan")
    must_be = file.parent.name.startswith(refused) or "02-" in str(file.parent)
    if must_be and file.name != "smoothed_dense.h5ad":
        with pytest.raises(UserError) as raised:
            run_check(file, **GENES)
        assert "\n" not in str(raised.value)
    else:
        run_check(file, **GENES)
        assert "genes are in the vocabulary" in capsys.readouterr().out


def _prepared(source: str, files: dict[str, Path], out: Path, **more: object) -> tuple[list[str], np.ndarray]:
    settings = {} if source in ("ccle", "panglaodb") else {"min_genes": 5}
    run_prepare(source, files, settings=settings, out=out, **GENES, **more)
    return list(h5ad.read(out).var_names), h5ad.read(out).X.toarray()


def _alike_or_refused(file: Path, read: Callable[[Path], tuple[list[str], np.ndarray]], plain: Path) -> None:
    if file.name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[file.name]) as raised:
            read(file)
        assert "\n" not in str(raised.value)
        return
    (genes, values), (expected_genes, expected) = read(file), read(plain)
    assert genes == expected_genes
    np.testing.assert_allclose(values, expected[: len(values)], rtol=1e-5)


@pytest.mark.parametrize("archive", _files("40-*/*.tar*"), ids=lambda path: path.name)
def test_every_form_of_a_10x_archive_gives_its_counts_or_one_line(tmp_path: Path, archive: Path) -> None:
    def read(matrix: Path) -> tuple[list[str], np.ndarray]:
        files = {"matrix": matrix, "labels": TEN_X / "labels.tsv"}
        return _prepared("zheng68k", files, tmp_path / "x.h5ad")

    _alike_or_refused(archive, read, TEN_X / "good.tar.gz")


@pytest.mark.parametrize("labels", _files("41-*/*.ts*", "41-*/b*.txt", "4[23]-*/*.tsv"), ids=lambda p: p.name)
def test_every_form_of_labels_is_joined_or_one_line(tmp_path: Path, labels: Path) -> None:
    def read(path: Path) -> tuple[list[str], np.ndarray]:
        return _prepared("zheng68k", {"matrix": TEN_X / "good.tar.gz", "labels": path}, tmp_path / "x.h5ad")

    _alike_or_refused(labels, read, TEN_X / "labels.tsv")


@pytest.mark.parametrize("matrix", _files("44-*/[dps][rue]*.tsv"), ids=lambda path: path.name)
def test_barcodes_with_a_suffix_are_barcodes(tmp_path: Path, matrix: Path) -> None:
    more = {"sample": "S-001-01-1A", "samples": matrix.with_name("samples.tsv")}
    assert _prepared("cancerscem", {"matrix": matrix}, tmp_path / "x.h5ad", **more)[1].shape == (40, 136)


@pytest.mark.parametrize(
    "table", _files("50-*/[bgpru]*.csv", "50-*/ens*.csv", "50-*/sy*.csv"), ids=lambda p: p.name
)
def test_every_release_of_ccle_gives_its_lines_or_one_line(tmp_path: Path, table: Path) -> None:
    def read(path: Path) -> tuple[list[str], np.ndarray]:
        return _prepared("ccle", {"expression": path, "lines": CCLE / "sample_info.csv"}, tmp_path / "x.h5ad")

    if table.name == "r25q3.csv":  # one line less
        assert read(table)[1].shape == (11, 136)
    else:
        _alike_or_refused(table, read, CCLE / "good.csv")


@pytest.mark.parametrize("workspace", _files("70-*/*.RData"), ids=lambda path: path.name)
def test_every_r_workspace_gives_its_matrix_or_one_line(tmp_path: Path, workspace: Path) -> None:
    of_numbers = workspace.name == "barcodes_deferred.RData"
    clusters = WORKSPACES / ("clusters_deferred.txt" if of_numbers else "clusters.txt")
    more = {"sample": "SRA1_SRS1", "samples": WORKSPACES / "samples.tsv"}

    def read(path: Path) -> tuple[list[str], np.ndarray]:
        return _prepared("panglaodb", {"matrix": path, "clusters": clusters}, tmp_path / "x.h5ad", **more)

    if workspace.name == "altrep_dim_sequence.RData":  # another matrix
        assert read(workspace)[1].shape == (11, 12)
    elif of_numbers:
        assert len(read(workspace)[1])
    else:
        _alike_or_refused(workspace, read, WORKSPACES / "plain_v3.RData")


@pytest.mark.parametrize("table", _files("61-*/[bcqw]*.txt"), ids=lambda path: path.name)
def test_every_form_of_hgnc_s_table_gives_its_genes_or_one_line(tmp_path: Path, table: Path) -> None:
    if table.name == "custom_download.txt":
        with pytest.raises(UserError, match="the column 'symbol' is missing"):
            run_genes(table, tmp_path / "g", tmp_path / "a")
    else:
        run_genes(table, tmp_path / "g", tmp_path / "a")
        assert len((tmp_path / "g").read_text().splitlines()) == 137


@pytest.mark.parametrize(
    "file", _files("60-*/links*.txt", "60-*/info*.txt", "60-*/al*.txt"), ids=lambda p: p.name
)
def test_every_form_of_string_s_tables_gives_its_network_or_one_line(tmp_path: Path, file: Path) -> None:
    folder, settings = file.parent, NetworkSettings(min_score=900)
    chosen = {"links": folder / "links.txt", "info": folder / "info_v11.txt"}

    def network(**changed: Path) -> dict[str, np.ndarray]:
        run_network(**(chosen | changed), settings=settings, out=tmp_path / "n.npz", **GENES)
        return dict(np.load(tmp_path / "n.npz"))

    changed = {"links" if file.name.startswith("links") else "info": file}
    if file.name in ("aliases_v12.txt", "links_header_only.txt", "links_float_score.txt", "links_tab.txt"):
        with pytest.raises(UserError, match=file.name) as raised:
            network(**changed)
        assert "\n" not in str(raised.value)
    else:
        np.testing.assert_equal(network(**changed), network())
